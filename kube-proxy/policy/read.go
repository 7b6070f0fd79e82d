package policy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/nfconn"
)

// found is what the kernel holds under our table's name.
type found struct {
	absent bool // nothing
	// usable: the sets and base chains are ours, so elements and rules can be
	// mended in place. Otherwise the table is replaced.
	usable   bool
	chains   map[string][][]byte          // the stamps of each chain's rules
	elements map[slot]string              // but for the spans
	spans    map[string]map[border]string // by set
	rights   map[string]uint32            // the numbers of sets of ports, by key
}

// errForeign says that a reading was given up: what is there is not ours, or it
// is just gone.
var errForeign = errors.New("no table of ours")

// read reads the table back.
func (k *kernel) read() (*found, error) {
	out := &found{chains: map[string][][]byte{}, elements: map[slot]string{}, spans: map[string]map[border]string{}}
	err := k.Read(func(conn *nft.Conn) error { return out.read(conn) })
	if errors.Is(err, errForeign) {
		return out, nil
	}
	return out, err
}

func (out *found) read(conn *nft.Conn) error {
	tables, err := conn.ListTablesOfFamily(nft.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("listing tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nft.Table) bool { return t.Name == tableName }) {
		out.absent = true
		return nil
	}
	chains, err := conn.ListChainsOfTableFamily(nft.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("listing chains: %w", err)
	}
	chains = slices.DeleteFunc(chains, func(c *nft.Chain) bool { return c.Table.Name != tableName })
	if !sameDoors(chains) {
		return errForeign
	}
	sets, err := conn.GetSets(theTable())
	if err != nil || !sameSets(sets) {
		return errForeign // the table is gone, or holds a set of a type we never make
	}
	for _, c := range chains {
		rules, err := conn.GetRules(theTable(), c)
		if err != nil {
			return ifStill(err, "listing the rules of "+c.Name)
		}
		out.chains[c.Name] = [][]byte{}
		for _, r := range rules {
			out.chains[c.Name] = append(out.chains[c.Name], r.UserData)
		}
	}
	for _, s := range setSpecs() {
		es, err := conn.GetSetElements(&nft.Set{Table: theTable(), Name: s.name})
		if err != nil {
			return ifStill(err, "listing the elements of "+s.name)
		}
		if err := out.take(s, es); err != nil {
			return fmt.Errorf("listing the elements of %s: %w", s.name, err)
		}
	}
	out.usable = true
	return nil
}

// ifStill is the error, or errForeign if what we read is just gone.
func ifStill(err error, doing string) error {
	if errors.Is(err, os.ErrNotExist) {
		return errForeign
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// take notes the elements of a set.
func (out *found) take(s setSpec, es []nft.SetElement) error {
	if s.spans() {
		out.spans[s.name] = map[border]string{}
	}
	for _, e := range es {
		switch {
		case s.spans():
			out.spans[s.name][border{string(e.Key), e.IntervalEnd}] = string(e.Val)
		case s.interval:
			end := e.KeyEnd
			if len(end) == 0 {
				end = e.Key
			}
			out.elements[slot{s.name, string(e.Key) + string(end)}] = ""
		case s.verdicts():
			value, err := verdictIn(e.Val)
			if err != nil {
				return err
			}
			out.elements[slot{s.name, string(e.Key)}] = value
		default:
			out.elements[slot{s.name, string(e.Key)}] = string(e.Val)
		}
	}
	return nil
}

// verdictIn reads a verdict: the chain it goes to, verdictReturn, or «» for any other.
func verdictIn(raw []byte) (string, error) {
	kind, name, err := nfconn.Verdict(raw)
	switch kind {
	case expr.VerdictReturn:
		name = verdictReturn
	case expr.VerdictGoto:
	default:
		name = ""
	}
	return name, err
}

// sameDoors tells whether exactly our base chains are there, where they belong.
func sameDoors(chains []*nft.Chain) bool {
	doors := 0
	for _, c := range chains {
		if c.Hooknum == nil {
			continue
		}
		doors++
		ours := false
		for _, b := range baseChains {
			ours = ours || b.name == c.Name && *b.hook == *c.Hooknum && *c.Priority == *nft.ChainPriorityFilter &&
				c.Type == nft.ChainTypeFilter && (c.Policy == nil || *c.Policy == nft.ChainPolicyAccept)
		}
		if !ours {
			return false
		}
	}
	return doors == len(baseChains)
}

// sameSets tells whether exactly our sets are there, of our types.
func sameSets(sets []*nft.Set) bool {
	if len(sets) != len(setSpecs()) {
		return false
	}
	for _, spec := range setSpecs() {
		want := spec.set(theTable())
		if !slices.ContainsFunc(sets, func(s *nft.Set) bool {
			if s.Name != want.Name || s.IsMap != want.IsMap || s.Interval != want.Interval || s.Concatenation != want.Concatenation || s.HasTimeout || s.Dynamic || s.Constant {
				return false
			}
			if spec.verdicts() {
				return true // the library does not tell the key of a map of verdicts
			}
			return s.KeyType.GetNFTMagic() == want.KeyType.GetNFTMagic() && s.DataType.GetNFTMagic() == want.DataType.GetNFTMagic()
		}) {
			return false
		}
	}
	return true
}

// sameChains tells whether the chains found are the wanted ones, by the stamps
// of their rules.
func sameChains(have map[string][][]byte, want []chain) (bool, error) {
	if len(have) != len(want) {
		return false, nil
	}
	for _, c := range want {
		stamps, ok := have[c.name]
		if !ok {
			return false, nil
		}
		if same, err := sameRules(stamps, c.rules); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func sameRules(stamps [][]byte, rules []line) (bool, error) {
	if len(stamps) != len(rules) {
		return false, nil
	}
	for i, l := range rules {
		want, err := l.stamp()
		if err != nil {
			return false, err
		}
		if !bytes.Equal(stamps[i], want) {
			return false, nil
		}
	}
	return true, nil
}

// What an older run left tells which numbers things had, so that its table can
// be taken over with few changes. All of it is only a wish. A nil found knows nothing.

func (f *found) value(set, key string) uint32 {
	if f == nil || len(f.elements[slot{set, key}]) != 4 {
		return 0
	}
	return binaryutil.NativeEndian.Uint32([]byte(f.elements[slot{set, key}]))
}

func (f *found) identity(a netip.Addr) uint32 { return f.value(familyOf(a).name(setPeers), join(a)) }

func (f *found) group(a netip.Addr, d direction) uint32 {
	if f == nil {
		return 0
	}
	set := []string{setReceivers, setSenders}[d]
	if g, ok := parseGate(f.elements[slot{familyOf(a).name(set), join(a)}]); ok && g.direction == d {
		return g.number
	}
	return 0
}

func (f *found) span(lo netip.Addr) uint32 {
	if f == nil {
		return 0
	}
	for _, set := range spanSets {
		if v := f.spans[familyOf(lo).name(set)][border{at: join(lo)}]; len(v) == 4 {
			return binaryutil.NativeEndian.Uint32([]byte(v))
		}
	}
	return 0
}

func (f *found) right(p portSet) uint32 {
	if f == nil {
		return 0
	}
	if f.rights == nil {
		f.rights = map[string]uint32{}
		ranges := map[uint32][]portRange{}
		for k := range f.elements {
			if k.set != setPorts && k.set != setPortRanges {
				continue
			}
			n := binaryutil.NativeEndian.Uint32([]byte(k.key))
			lo := binary.BigEndian.Uint16([]byte(k.key[8:]))
			hi := lo
			if k.set == setPortRanges {
				hi = binary.BigEndian.Uint16([]byte(k.key[rangeKey+8:]))
			}
			ranges[n] = append(ranges[n], portRange{changes.Protocol(k.key[4]), lo, hi})
		}
		for n, all := range ranges {
			f.rights[portSet{ranges: canonical(all)}.key()] = n
		}
	}
	return f.rights[p.key()]
}

// inherit lets an older run's table decide on numbers while the first news are
// taken in, and on which spans are asked now.
func (r *ruleset) inherit(f *found) error {
	r.found = f
	for i, fam := range families {
		for n := range spanSets {
			same, err := sameRules(f.chains[fam.name(chainWhoFrom)], fam.who(fam.loadSource, fam.name(spanSets[n])))
			if err != nil {
				return err
			}
			if same {
				r.active[i] = n
			}
		}
	}
	return nil
}
