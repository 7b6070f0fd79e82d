package hostports

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long the kernel may take to answer.
const patience = time.Minute

// elementsPerMessage keeps a message below the 64 KiB of a netlink attribute: an element is at most some 350 bytes.
const elementsPerMessage = 100

// kernel talks to nf_tables in the network namespace of the thread that opens it. Its socket stays open: when one is closed, the kernel first waits
// until no packet looks at what was deleted.
type kernel struct {
	conn       *nft.Conn // nil: closed
	socket     *netlink.Conn
	generation uint32 // the kernel's count of everybody's transactions when have was read; 0: it must be read

	have map[bool]held // by family, true is IPv6
}

// held is what the kernel holds of a family.
type held struct {
	there    bool // there is a table of our name
	usable   bool // and chains, rules and sets are ours
	elements map[element]bool
}

func (k *kernel) open() (*nft.Conn, error) {
	if k.conn == nil {
		conn, err := nft.New(nft.AsLasting(), nft.WithSockOptions(func(s *netlink.Conn) error {
			k.socket = s
			return nil
		}))
		if err != nil {
			k.close()
			return nil, fmt.Errorf("opening netlink: %w", err)
		}
		k.conn = conn
	}
	if err := k.socket.SetDeadline(time.Now().Add(patience)); err != nil {
		k.close()
		return nil, fmt.Errorf("setting a deadline: %w", err)
	}
	return k.conn, nil
}

// close ends the connection: after an error nobody knows what lies in it, nor what the kernel holds.
func (k *kernel) close() {
	if k.socket != nil {
		_ = k.socket.Close() // it is of no more use either way
	}
	k.conn, k.socket, k.generation = nil, nil, 0
}

// look reads our tables, if anybody changed the kernel's rules since they were read last.
func (k *kernel) look() (err error) {
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	now, err := k.count()
	if err != nil || now == k.generation {
		return err
	}
	have := map[bool]held{}
	for _, v6 := range []bool{false, true} {
		if have[v6], err = k.read(familyOf(v6)); err != nil {
			return err
		}
	}
	k.have, k.generation = have, now
	return nil
}

// count is the kernel's count of transactions in this namespace.
func (k *kernel) count() (uint32, error) {
	if _, err := k.open(); err != nil {
		return 0, err
	}
	msgs, err := k.socket.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return 0, fmt.Errorf("reading the ruleset's generation: %w", err)
	}
	for _, m := range msgs {
		if len(m.Data) < 4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("reading the ruleset's generation: %w", err)
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), nil
			}
		}
	}
	return 0, errors.New("reading the ruleset's generation: the kernel gave none")
}

func (k *kernel) read(f family) (held, error) {
	conn, err := k.open()
	if err != nil {
		return held{}, err
	}
	tables, err := conn.ListTablesOfFamily(f.table)
	if err != nil {
		return held{}, fmt.Errorf("listing tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nft.Table) bool { return t.Name == tableName }) {
		return held{}, nil
	}
	out := held{there: true, elements: map[element]bool{}}
	if out.usable, err = f.sameRules(conn); err != nil {
		return held{}, err
	}
	sets, err := conn.GetSets(f.tableRef())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		out.usable = false // it holds a set of a type that we never make
		k.close()
		return out, nil
	}
	ours := 0
	for _, want := range f.sets() {
		if !slices.ContainsFunc(sets, func(s *nft.Set) bool { return sameSet(s, want) }) {
			continue
		}
		ours++
		es, err := conn.GetSetElements(&nft.Set{Table: f.tableRef(), Name: want.Name})
		if err != nil {
			return held{}, fmt.Errorf("listing the elements of %s: %w", want.Name, err)
		}
		for _, e := range es {
			out.elements[element{want.Name, string(e.Key), string(e.Val), e.Comment}] = true
		}
	}
	out.usable = out.usable && ours == len(f.sets()) && ours == len(sets)
	return out, nil
}

func sameSet(s, want *nft.Set) bool {
	return s.Name == want.Name && s.IsMap == want.IsMap && !s.HasTimeout && !s.Dynamic && !s.Interval && !s.Constant &&
		s.KeyType.GetNFTMagic() == want.KeyType.GetNFTMagic() && s.DataType.GetNFTMagic() == want.DataType.GetNFTMagic()
}

// sameRules says whether the table's chains and rules are those that we make.
func (f family) sameRules(conn *nft.Conn) (bool, error) {
	all, err := conn.ListChainsOfTableFamily(f.table)
	if err != nil {
		return false, fmt.Errorf("listing chains: %w", err)
	}
	all = slices.DeleteFunc(all, func(c *nft.Chain) bool { return c.Table.Name != tableName })
	wanted := f.chains()
	if len(all) != len(wanted) {
		return false, nil
	}
	for _, want := range wanted {
		at := slices.IndexFunc(all, func(c *nft.Chain) bool { return c.Name == want.name })
		if at < 0 || !sameHook(all[at], want) {
			return false, nil
		}
		rules, err := conn.GetRules(f.tableRef(), all[at])
		if err != nil {
			return false, fmt.Errorf("listing the rules of %s: %w", want.name, err)
		}
		if len(rules) != len(want.rules) {
			return false, nil
		}
		for i, r := range want.rules {
			stamp, err := r.stamp(f)
			if err != nil {
				return false, err
			}
			if !bytes.Equal(stamp, rules[i].UserData) {
				return false, nil
			}
		}
	}
	return true, nil
}

func sameHook(c *nft.Chain, want chain) bool {
	if want.hook == nil {
		return c.Hooknum == nil
	}
	return c.Hooknum != nil && *c.Hooknum == *want.hook && *c.Priority == *want.priority && c.Type == want.kind && (c.Policy == nil || *c.Policy == nft.ChainPolicyAccept)
}

// set makes our tables hold the book, in one transaction, after look. Where it fails nothing was changed.
func (k *kernel) set(b book) (err error) {
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	conn, err := k.open()
	if err != nil {
		return err
	}
	changed, next := false, map[bool]held{}
	for _, v6 := range []bool{false, true} {
		f := familyOf(v6)
		want := held{elements: f.elements(b.of(v6))}
		want.there = len(want.elements) > 0
		want.usable = want.there
		now := k.have[v6]
		same := now.there == want.there && now.usable == want.usable && sameKeys(now.elements, want.elements)
		if next[v6] = want; same {
			continue
		}
		changed = true
		if err := f.change(conn, now, want); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("changing the table: %w", err)
	}
	k.have = next
	now, err := k.count()
	if err != nil {
		return err
	}
	if now == k.generation+1 {
		k.generation = now
	} else {
		k.generation = 0 // somebody came between: look again
	}
	return nil
}

func sameKeys(a, b map[element]bool) bool {
	if len(a) != len(b) {
		return false
	}
	for e := range a {
		if !b[e] {
			return false
		}
	}
	return true
}

// change writes down how a family gets from one state to the other.
func (f family) change(conn *nft.Conn, now, want held) error {
	if !want.there || !now.usable {
		if now.there {
			conn.DelTable(f.tableRef())
		}
		if !want.there {
			return nil
		}
		now.elements = nil
		conn.AddTable(f.tableRef())
	}
	byName := map[string]*nft.Set{}
	for _, s := range f.sets() {
		byName[s.Name] = s
		if !now.usable {
			if err := conn.AddSet(s, nil); err != nil {
				return fmt.Errorf("adding set %s: %w", s.Name, err)
			}
		}
	}
	if !now.usable {
		if err := f.addChains(conn); err != nil {
			return err
		}
	}
	gone, came := map[string][]nft.SetElement{}, map[string][]nft.SetElement{}
	for e := range now.elements {
		if !want.elements[e] {
			gone[e.set] = append(gone[e.set], nft.SetElement{Key: []byte(e.key)})
		}
	}
	for e := range want.elements {
		if !now.elements[e] {
			came[e.set] = append(came[e.set], nft.SetElement{Key: []byte(e.key), Val: []byte(e.value), Comment: e.comment})
		}
	}
	for name, s := range byName {
		for part := range slices.Chunk(gone[name], elementsPerMessage) {
			if err := conn.SetDeleteElements(s, part); err != nil {
				return fmt.Errorf("deleting elements of %s: %w", name, err)
			}
		}
		for part := range slices.Chunk(came[name], elementsPerMessage) {
			if err := conn.SetAddElements(s, part); err != nil {
				return fmt.Errorf("adding elements of %s: %w", name, err)
			}
		}
	}
	return nil
}

func (f family) addChains(conn *nft.Conn) error {
	for _, c := range f.chains() {
		made := conn.AddChain(&nft.Chain{Table: f.tableRef(), Name: c.name, Type: c.kind, Hooknum: c.hook, Priority: c.priority})
		for _, r := range c.rules {
			stamp, err := r.stamp(f)
			if err != nil {
				return err
			}
			conn.AddRule(&nft.Rule{Table: f.tableRef(), Chain: made, Exprs: r.exprs, UserData: stamp})
		}
	}
	return nil
}
