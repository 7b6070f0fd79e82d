package nftables

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"pilothouse.dev/kube-proxy/nfconn"
)

// found is what the kernel holds under our table's name.
type found struct {
	// usable: the sets and base chains are ours, so elements and rules can be
	// mended in place. Otherwise the table is replaced.
	usable   bool
	absent   bool                // no chain is there: no packet meets anything of ours
	chains   map[string][][]byte // the stamps of each chain's rules
	elements map[frontKey]string
}

// errForeign says that a reading was given up: what is there is not ours, or it
// is just gone.
var errForeign = errors.New("no table of ours")

// read reads the table back.
func (k *kernel) read() (found, error) {
	var out found
	err := k.Read(func(conn *nft.Conn) (err error) {
		out, err = k.readTable(conn)
		return err
	})
	if errors.Is(err, errForeign) {
		return out, nil
	}
	return out, err
}

func (k *kernel) readTable(conn *nft.Conn) (found, error) {
	out := found{chains: map[string][][]byte{}, elements: map[frontKey]string{}}
	chains, err := conn.ListChainsOfTableFamily(k.family.table)
	if err != nil {
		return out, fmt.Errorf("listing chains: %w", err)
	}
	chains = slices.DeleteFunc(chains, func(c *nft.Chain) bool { return c.Table.Name != tableName })
	out.absent = len(chains) == 0
	if !sameDoors(chains) {
		return out, errForeign
	}
	sets, err := conn.GetSets(k.table())
	if err != nil || !k.sameSets(sets) {
		return out, errForeign // the table is gone, or holds a set of a type we never make
	}
	for _, c := range chains {
		rules, err := conn.GetRules(k.table(), c)
		if err != nil {
			return out, ifStill(err, "listing the rules of "+c.Name)
		}
		out.chains[c.Name] = [][]byte{}
		for _, r := range rules {
			out.chains[c.Name] = append(out.chains[c.Name], r.UserData)
		}
	}
	for _, s := range setSpecs {
		if s.dynamic {
			continue
		}
		es, err := conn.GetSetElements(&nft.Set{Table: k.table(), Name: s.name})
		if err != nil {
			return out, ifStill(err, "listing the elements of "+s.name)
		}
		for _, e := range es {
			value := string(e.Val)
			if s.verdicts() {
				if value, err = target(e.Val); err != nil {
					return out, fmt.Errorf("listing the elements of %s: %w", s.name, err)
				}
			}
			out.elements[frontKey{s.name, string(e.Key) + string(e.KeyEnd)}] = value
		}
	}
	out.usable = true
	return out, nil
}

// ifStill is the error, or errForeign if what we read is just gone.
func ifStill(err error, doing string) error {
	if errors.Is(err, os.ErrNotExist) {
		return errForeign
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// target reads the chain that a verdict goes to; «» for any other verdict.
func target(raw []byte) (string, error) {
	kind, name, err := nfconn.Verdict(raw)
	if kind != expr.VerdictGoto {
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
		if !slices.ContainsFunc(baseChains(), func(b baseChain) bool {
			return b.name == c.Name && *b.hook == *c.Hooknum && *b.priority == *c.Priority &&
				c.Type == b.kind && (c.Policy == nil || *c.Policy == nft.ChainPolicyAccept)
		}) {
			return false
		}
	}
	return doors == len(baseChains())
}

// sameSets tells whether exactly our sets are there, of our types.
func (k *kernel) sameSets(sets []*nft.Set) bool {
	if len(sets) != len(setSpecs) {
		return false
	}
	for _, spec := range setSpecs {
		want := k.family.set(k.table(), spec)
		if !slices.ContainsFunc(sets, func(s *nft.Set) bool {
			if s.Name != want.Name || s.IsMap != want.IsMap || s.HasTimeout != want.HasTimeout || s.Dynamic != want.Dynamic || s.Interval != want.Interval || s.Constant {
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

// sameRules tells whether a chain's rules carry the stamps they should.
func (k *kernel) sameRules(stamps [][]byte, rules []rule) (bool, error) {
	if len(stamps) != len(rules) {
		return false, nil
	}
	for i, r := range rules {
		want, err := r.stamp(k.family)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(stamps[i], want) {
			return false, nil
		}
	}
	return true, nil
}
