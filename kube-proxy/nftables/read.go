package nftables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// found is what the kernel holds under our table's name.
type found struct {
	// usable: the sets and base chains are ours, so elements and rules can be
	// mended in place. Otherwise the table is replaced.
	usable   bool
	chains   map[string][][]byte // the stamps of each chain's rules
	elements map[frontKey]string
}

// generation is the kernel's count of transactions in this namespace: if it has
// not moved, nobody has changed anything.
func (k *kernel) generation() (uint32, error) {
	if _, err := k.open(); err != nil {
		return 0, err
	}
	msgs, err := k.socket.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		k.close()
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

// read reads the table back.
func (k *kernel) read() (found, error) {
	out, err := k.readTable()
	if err != nil || !out.usable {
		k.close() // a reading given up halfway leaves the rest in the socket
	}
	return out, err
}

func (k *kernel) readTable() (found, error) {
	out := found{chains: map[string][][]byte{}, elements: map[frontKey]string{}}
	conn, err := k.open()
	if err != nil {
		return out, err
	}
	chains, err := conn.ListChainsOfTableFamily(k.family.table)
	if err != nil {
		return out, fmt.Errorf("listing chains: %w", err)
	}
	chains = slices.DeleteFunc(chains, func(c *nft.Chain) bool { return c.Table.Name != tableName })
	if !sameDoors(chains) {
		return out, nil
	}
	sets, err := conn.GetSets(k.table())
	if err != nil || !k.sameSets(sets) {
		return out, nil // the table is gone, or holds a set of a type we never make
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
			out.elements[frontKey{s.name, string(e.Key)}] = value
		}
	}
	out.usable = true
	return out, nil
}

// ifStill is the error, unless it says that what we read is just gone.
func ifStill(err error, doing string) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// target reads the chain that a verdict goes to; «» for any other verdict.
func target(raw []byte) (string, error) {
	ad, err := netlink.NewAttributeDecoder(raw)
	if err != nil {
		return "", err
	}
	ad.ByteOrder = binary.BigEndian
	var code int32
	var name string
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			code = int32(ad.Uint32())
		case unix.NFTA_VERDICT_CHAIN:
			name = ad.String()
		}
	}
	if code != int32(expr.VerdictGoto) {
		name = ""
	}
	return name, ad.Err()
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
			if s.Name != want.Name || s.IsMap != want.IsMap || s.HasTimeout != want.HasTimeout || s.Dynamic != want.Dynamic || s.Interval || s.Constant {
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
