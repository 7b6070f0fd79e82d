package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"pilothouse.dev/kube-proxy/nfconn"
)

// elementsPerMessage keeps a message below the 64 KiB of a netlink attribute.
const elementsPerMessage = 400

// kernel knows one table in the namespace of its connection.
type kernel struct{ *nfconn.Conn }

func theTable() *nft.Table { return &nft.Table{Name: tableName, Family: nft.TableFamilyINet} }

// batch is a transaction being written down.
type batch struct {
	conn *nft.Conn
	sets map[string]*nft.Set
}

// write commits what say writes down: the kernel does all or nothing, between
// two packets.
func (k *kernel) write(say func(*batch) error) error {
	return k.Write(func(conn *nft.Conn) error {
		b := &batch{conn: conn, sets: map[string]*nft.Set{}}
		for _, s := range setSpecs() {
			b.sets[s.name] = s.set(theTable())
		}
		return say(b)
	})
}

// remove deletes the table, if there is one.
func (k *kernel) remove() error {
	return k.write(func(b *batch) error {
		b.deleteTable()
		return nil
	})
}

func (b *batch) deleteTable() {
	b.conn.AddTable(theTable()) // so that there is one to delete
	b.conn.DelTable(theTable())
}

// addTable makes the table and its sets, empty.
func (b *batch) addTable() error {
	b.conn.AddTable(theTable())
	for _, s := range setSpecs() {
		if err := b.conn.AddSet(b.sets[s.name], nil); err != nil {
			return fmt.Errorf("adding set %s: %w", s.name, err)
		}
	}
	return nil
}

// doors makes the base chains.
func (b *batch) doors() {
	for _, c := range baseChains {
		b.conn.AddChain(&nft.Chain{Table: theTable(), Name: c.name, Type: nft.ChainTypeFilter, Hooknum: c.hook, Priority: nft.ChainPriorityFilter})
	}
}

// chains adds chains: all first, then their rules, for they go to each other.
// What they held before goes.
func (b *batch) chains(all []chain) error {
	for _, c := range all {
		if !isBase(c.name) {
			b.conn.AddChain(&nft.Chain{Table: theTable(), Name: c.name})
		}
		b.conn.FlushChain(&nft.Chain{Table: theTable(), Name: c.name})
	}
	for _, c := range all {
		for _, l := range c.rules {
			stamp, err := l.stamp()
			if err != nil {
				return err
			}
			b.conn.AddRule(&nft.Rule{Table: theTable(), Chain: &nft.Chain{Name: c.name}, Exprs: l.exprs, UserData: stamp})
		}
	}
	return nil
}

func isBase(name string) bool {
	for _, c := range baseChains {
		if c.name == name {
			return true
		}
	}
	return false
}

// deleteChains deletes chains nobody goes to but each other.
func (b *batch) deleteChains(names []string) {
	for _, n := range names {
		b.conn.FlushChain(&nft.Chain{Table: theTable(), Name: n})
	}
	for _, n := range names {
		b.conn.DelChain(&nft.Chain{Table: theTable(), Name: n})
	}
}

// first writes what nobody asks for yet.
func (b *batch) first(t transaction) error {
	for _, f := range t.fill {
		b.conn.FlushSet(b.sets[f.set])
		if err := b.fill(f); err != nil {
			return err
		}
	}
	return b.add(t.ahead)
}

// fill writes spans: where each begins, with its number, and where it ends.
func (b *batch) fill(f fill) error {
	var es []nft.SetElement
	for _, s := range f.spans {
		es = append(es, nft.SetElement{Key: []byte(join(s.lo)), Val: []byte(join(s.identity.number))})
		if next := s.hi.Next(); next.IsValid() {
			es = append(es, nft.SetElement{Key: []byte(join(next)), IntervalEnd: true})
		}
	}
	for part := range slices.Chunk(es, elementsPerMessage) {
		if err := b.conn.SetAddElements(b.sets[f.set], part); err != nil {
			return fmt.Errorf("filling %s: %w", f.set, err)
		}
	}
	return nil
}

// then writes the rest of a transaction; its chains are given.
func (b *batch) then(t transaction, chains []chain) error {
	if err := b.chains(chains); err != nil {
		return err
	}
	if err := b.delete(t.del); err != nil {
		return err
	}
	if err := b.add(t.add); err != nil {
		return err
	}
	b.deleteChains(t.delChains)
	return nil
}

func (b *batch) delete(all []element) error {
	return eachMessage(all, func(set string, es []nft.SetElement) error {
		for i := range es {
			es[i].Val, es[i].VerdictData = nil, nil // to delete, keys suffice
		}
		if err := b.conn.SetDeleteElements(b.sets[set], es); err != nil {
			return fmt.Errorf("deleting elements of %s: %w", set, err)
		}
		return nil
	})
}

func (b *batch) add(all []element) error {
	return eachMessage(all, func(set string, es []nft.SetElement) error {
		if err := b.conn.SetAddElements(b.sets[set], es); err != nil {
			return fmt.Errorf("adding elements of %s: %w", set, err)
		}
		return nil
	})
}

// eachMessage cuts a list sorted by set into messages.
func eachMessage(all []element, send func(set string, es []nft.SetElement) error) error {
	specs := map[string]setSpec{}
	for _, s := range setSpecs() {
		specs[s.name] = s
	}
	for len(all) > 0 {
		spec := specs[all[0].set]
		n := 0
		for n < len(all) && n < elementsPerMessage && all[n].set == spec.name {
			n++
		}
		es := make([]nft.SetElement, 0, n)
		for _, e := range all[:n] {
			es = append(es, spec.element(e))
		}
		if err := send(spec.name, es); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// element makes the library's form of an element.
func (s setSpec) element(e element) nft.SetElement {
	switch {
	case s.interval:
		return nft.SetElement{Key: []byte(e.key[:rangeKey]), KeyEnd: []byte(e.key[rangeKey:])}
	case !s.verdicts():
		return nft.SetElement{Key: []byte(e.key), Val: []byte(e.value)}
	case e.value == verdictReturn:
		return nft.SetElement{Key: []byte(e.key), VerdictData: &expr.Verdict{Kind: expr.VerdictReturn}}
	}
	return nft.SetElement{Key: []byte(e.key), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.value}}
}

// apply makes the changes of a transaction to the table of a ruleset.
func (k *kernel) apply(t transaction, r *ruleset) error {
	chains, err := gateChains(t.addChains)
	if err != nil {
		return err
	}
	for _, c := range r.fixedChains() {
		if slices.Contains(t.rewrite, c.name) {
			chains = append(chains, c)
		}
	}
	if len(t.fill)+len(t.ahead) > 0 {
		if err := k.write(func(b *batch) error { return b.first(t) }); err != nil {
			return err
		}
	}
	return k.write(func(b *batch) error { return b.then(t, chains) })
}

// mend makes the found table hold the ruleset, if anything is missing.
func (k *kernel) mend(have *found, r *ruleset) (Stats, error) {
	want, err := r.allChains()
	if err != nil {
		return Stats{}, err
	}
	same, err := sameChains(have.chains, want)
	if err != nil {
		return Stats{}, err
	}
	t := r.mend(have)
	if have.usable && same && t.empty() {
		return Stats{}, nil
	}
	stats := Stats{Elements: t.elements(), Repaired: true}
	if same && have.usable {
		want = nil
	} else {
		t.delChains = foreign(have.chains, want)
		stats.Chains = len(want) + len(t.delChains)
	}
	first := func(b *batch) error {
		if !have.usable {
			if !have.absent {
				b.deleteTable()
			}
			if err := b.addTable(); err != nil {
				return err
			}
			t.delChains = nil // gone with the table
		}
		return b.first(t)
	}
	then := func(b *batch) error {
		if want != nil {
			b.doors()
		}
		return b.then(t, want)
	}
	if !have.usable && !have.absent { // there must be no moment between the tables
		return stats, k.write(func(b *batch) error { return errors.Join(first(b), then(b)) })
	}
	if err := k.write(first); err != nil {
		return stats, err
	}
	return stats, k.write(then)
}

// allChains are all chains of the table, with the base chains and the groups'.
func (r *ruleset) allChains() ([]chain, error) {
	groups, err := gateChains(slices.Sorted(maps.Keys(r.chains)))
	return append(r.fixedChains(), groups...), err
}

// foreign are the chains found that are not wanted.
func foreign(have map[string][][]byte, want []chain) []string {
	var out []string
	for name := range have {
		if !slices.ContainsFunc(want, func(c chain) bool { return c.name == name }) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
