package nftables

import (
	"fmt"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"pilothouse.dev/kube-proxy/nfconn"
)

// elementsPerMessage keeps a message below the 64 KiB of a netlink attribute.
const elementsPerMessage = 400

// kernel knows one table in the namespace of its connection.
type kernel struct {
	*nfconn.Conn
	config Config
	family family
}

func (k *kernel) table() *nft.Table {
	return &nft.Table{Name: tableName, Family: k.family.table}
}

// batch is a transaction being written down.
type batch struct {
	*kernel
	conn *nft.Conn
	sets map[string]*nft.Set
}

// write commits what say writes down: the kernel does all or nothing, between
// two packets.
func (k *kernel) write(say func(*batch) error) error {
	return k.Write(func(conn *nft.Conn) error {
		b := &batch{kernel: k, conn: conn, sets: map[string]*nft.Set{}}
		for _, s := range setSpecs {
			b.sets[s.name] = k.family.set(k.table(), s)
		}
		return say(b)
	})
}

// replaceTable starts anew: the table with its sets and chains, empty.
func (b *batch) replaceTable() error {
	b.conn.AddTable(b.table()) // so that there is one to delete
	b.conn.DelTable(b.table())
	b.conn.AddTable(b.table())
	for _, s := range setSpecs {
		if err := b.conn.AddSet(b.sets[s.name], nil); err != nil {
			return fmt.Errorf("adding set %s: %w", s.name, err)
		}
	}
	return nil
}

// fixed adds base chains and chains that do not depend on services.
func (b *batch) fixed() error {
	for _, c := range baseChains() {
		b.conn.AddChain(&nft.Chain{Table: b.table(), Name: c.name, Type: c.kind, Hooknum: c.hook, Priority: c.priority})
	}
	for _, c := range fixedChains(b.config, b.family) {
		if !isBase(c.name) {
			b.conn.AddChain(&nft.Chain{Table: b.table(), Name: c.name})
		}
	}
	for _, c := range fixedChains(b.config, b.family) {
		if err := b.rules(c.name, c.rules); err != nil {
			return err
		}
	}
	return nil
}

func isBase(chain string) bool {
	return slices.ContainsFunc(baseChains(), func(c baseChain) bool { return c.name == chain })
}

// picks adds chains that choose endpoints: all first, then their rules, for
// they go to each other.
func (b *batch) picks(picks []pick) error {
	for _, p := range picks {
		b.conn.AddChain(&nft.Chain{Table: b.table(), Name: p.chain()})
	}
	for _, p := range picks {
		if err := b.rules(p.chain(), p.rules(b.config, b.family)); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) rules(chain string, rules []rule) error {
	for _, r := range rules {
		stamp, err := r.stamp(b.family)
		if err != nil {
			return err
		}
		b.conn.AddRule(&nft.Rule{Table: b.table(), Chain: &nft.Chain{Name: chain}, Exprs: r.exprs, UserData: stamp})
	}
	return nil
}

// flush empties chains.
func (b *batch) flush(chains []string) {
	for _, c := range chains {
		b.conn.FlushChain(&nft.Chain{Table: b.table(), Name: c})
	}
}

// deleteChains deletes chains nobody goes to but each other.
func (b *batch) deleteChains(chains []string) {
	b.flush(chains)
	for _, c := range chains {
		b.conn.DelChain(&nft.Chain{Table: b.table(), Name: c})
	}
}

// elements deletes and adds elements, sorted by set.
func (b *batch) elements(del, add []element) error {
	err := eachMessage(del, false, func(set string, es []nft.SetElement) error { return b.conn.SetDeleteElements(b.sets[set], es) })
	if err != nil {
		return fmt.Errorf("deleting elements: %w", err)
	}
	err = eachMessage(add, true, func(set string, es []nft.SetElement) error { return b.conn.SetAddElements(b.sets[set], es) })
	if err != nil {
		return fmt.Errorf("adding elements: %w", err)
	}
	return nil
}

// eachMessage cuts a list sorted by set into messages; to delete, keys suffice.
func eachMessage(all []element, values bool, send func(set string, es []nft.SetElement) error) error {
	for len(all) > 0 {
		set := all[0].set
		verdicts, ranges := specOf(set).verdicts(), specOf(set).ranges
		n := 0
		for n < len(all) && n < elementsPerMessage && all[n].set == set {
			n++
		}
		es := make([]nft.SetElement, 0, n)
		size := 0
		for _, e := range all[:n] {
			size += len(e.key) + len(e.value)
		}
		raw := make([]byte, 0, size) // all keys and values lie here
		bytes := func(s string) []byte {
			raw = append(raw, s...)
			return raw[len(raw)-len(s) : len(raw) : len(raw)]
		}
		for _, e := range all[:n] {
			x := nft.SetElement{Key: bytes(e.key)}
			if half := len(e.key) / 2; ranges {
				x.Key, x.KeyEnd = x.Key[:half:half], x.Key[half:]
			}
			switch {
			case !values:
			case verdicts:
				x.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.value}
			default:
				x.Val = bytes(e.value)
			}
			es = append(es, x)
		}
		if err := send(set, es); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// apply makes the changes of a transaction.
func (k *kernel) apply(t transaction) error {
	if e, ok := k.plain(t); ok {
		return k.WriteElements(e)
	}
	return k.write(func(b *batch) error {
		if err := b.picks(t.addChains); err != nil {
			return err
		}
		return b.elements(t.del, t.add)
	})
}

// plain is a transaction of elements without verdicts: nearly every one.
func (k *kernel) plain(t transaction) (*nfconn.Elements, bool) {
	if len(t.addChains) > 0 {
		return nil, false
	}
	out := nfconn.NewElements(len(t.del) + len(t.add))
	for i, list := range [][]element{t.del, t.add} {
		del := i == 0
		for _, e := range list {
			s := specOf(e.set)
			if s.verdicts() {
				return nil, false
			}
			out.To(byte(k.family.table), tableName, e.set, del)
			key, end, value := e.key, "", e.value
			if s.ranges {
				key, end = e.key[:len(e.key)/2], e.key[len(e.key)/2:]
			}
			if del { // keys suffice
				value = ""
			}
			out.Add(key, end, value)
		}
	}
	return out, true
}
