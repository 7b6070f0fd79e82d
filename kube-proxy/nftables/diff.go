package nftables

import (
	"net/netip"
	"slices"

	"pilothouse.dev/kube-proxy/changes"
)

// Wish is everything the node's rules should do.
type Wish struct {
	Table *changes.Table
	// NodeAddresses are where node ports are answered.
	NodeAddresses []netip.Addr
}

// transaction is what to change, all at once.
type transaction struct {
	addChains []pick
	del       []element
	add       []element
	delChains []string
}

func (t transaction) empty() bool {
	return len(t.addChains)+len(t.del)+len(t.add)+len(t.delChains) == 0
}

// ruleset is the desired content of the kernel's table, and moves from wish to
// wish. Owned by the Writer; holds no connection to anything.
type ruleset struct {
	family family

	table    *changes.Table
	nodes    []netip.Addr
	services map[changes.Name]*rendered
	owner    map[frontKey]changes.Name // who answers a front that several claim: the first
	shared   map[element]int           // how many services want it
	chains   map[string]use
	lost     map[changes.Name]bool // services that lost a front to another
}

// frontKey identifies a front: an element of services or node-ports.
type frontKey struct{ set, key string }

// use is a chain that picks, and how many fronts and chains go to it.
type use struct {
	pick pick
	refs int
}

func newRuleset(f family) *ruleset {
	return &ruleset{
		family:   f,
		table:    &changes.Table{},
		services: map[changes.Name]*rendered{},
		owner:    map[frontKey]changes.Name{},
		shared:   map[element]int{},
		chains:   map[string]use{},
		lost:     map[changes.Name]bool{},
	}
}

// advance moves the ruleset to the wish and returns the difference. Its cost is
// that of the services that changed, and a comparison of pointers for the rest.
func (r *ruleset) advance(w Wish) transaction {
	d := difference{ruleset: r, chains: map[string]bool{}, elements: map[frontKey]change{}}

	gone, came := changes.Compare(r.table, w.Table)
	if len(r.lost) > 0 && len(gone) > 0 {
		// A front may have become free for one that lost it: contend again.
		gone, came = r.table.Services, w.Table.Services
	}
	was := make(map[changes.Name]*rendered, len(gone))
	for _, s := range gone {
		was[s.Name] = r.services[s.Name]
		d.release(s.Name)
	}
	for _, s := range came {
		d.claim(s, was[s.Name])
	}
	d.nodeAddresses(r.nodes, w.NodeAddresses)

	r.table, r.nodes = w.Table, slices.Clone(w.NodeAddresses)
	return d.transaction()
}

// difference gathers what one advance changes. What goes and comes back cancels out.
type difference struct {
	*ruleset
	chains   map[string]bool // that existed before this advance, of those touched
	elements map[frontKey]change
}

// change is an element before and after; nil: not there.
type change struct{ was, now *element }

func (d *difference) put(e element) {
	k := frontKey{e.set, e.key}
	c := d.elements[k]
	c.now = &e
	d.elements[k] = c
}

func (d *difference) remove(e element) {
	k := frontKey{e.set, e.key}
	c, touched := d.elements[k]
	if !touched {
		c.was = &e
	}
	c.now = nil
	d.elements[k] = c
}

// release takes a service's elements away.
func (d *difference) release(name changes.Name) {
	r := d.services[name]
	delete(d.services, name)
	delete(d.lost, name)
	for _, f := range r.fronts {
		k := frontKey{f.entry.set, f.entry.key}
		if d.owner[k] != name {
			continue
		}
		delete(d.owner, k)
		d.remove(f.entry)
		for _, e := range f.elements {
			d.remove(e)
		}
		d.unuse(f.pick)
	}
	for _, e := range r.shared {
		if d.shared[e]--; d.shared[e] == 0 {
			delete(d.shared, e)
			d.remove(e)
		}
	}
}

// claim renders a service and puts its elements in; a front that another
// service answers already is left to that one.
func (d *difference) claim(s *changes.Service, was *rendered) {
	r := render(s, was, d.family)
	d.services[s.Name] = r
	for _, f := range r.fronts {
		k := frontKey{f.entry.set, f.entry.key}
		if _, taken := d.owner[k]; taken {
			d.lost[s.Name] = true
			continue
		}
		d.owner[k] = s.Name
		d.put(f.entry)
		for _, e := range f.elements {
			d.put(e)
		}
		d.use(f.pick)
	}
	for _, e := range r.shared {
		if d.shared[e]++; d.shared[e] == 1 {
			d.put(e)
		}
	}
}

// use counts a reference to the chain of a pick.
func (d *difference) use(p pick) {
	name := p.chain()
	if name == chainReject || name == chainDrop {
		return
	}
	u, had := d.ruleset.chains[name]
	if _, touched := d.chains[name]; !touched {
		d.chains[name] = had
	}
	d.ruleset.chains[name] = use{pick: p, refs: u.refs + 1}
	if !had {
		for _, n := range p.needs() {
			d.use(n)
		}
	}
}

func (d *difference) unuse(p pick) {
	name := p.chain()
	u, had := d.ruleset.chains[name]
	if !had {
		return
	}
	if _, touched := d.chains[name]; !touched {
		d.chains[name] = true
	}
	if u.refs--; u.refs > 0 {
		d.ruleset.chains[name] = u
		return
	}
	delete(d.ruleset.chains, name)
	for _, n := range p.needs() {
		d.unuse(n)
	}
}

func (d *difference) nodeAddresses(was, now []netip.Addr) {
	for _, a := range was {
		if !slices.Contains(now, a) {
			d.remove(element{set: setNodes, key: join(a)})
		}
	}
	for _, a := range now {
		if !slices.Contains(was, a) {
			d.put(element{set: setNodes, key: join(a)})
		}
	}
}

// transaction writes the difference down, sorted.
func (d *difference) transaction() transaction {
	var t transaction
	for name, existed := range d.chains {
		u, exists := d.ruleset.chains[name]
		switch {
		case exists && !existed:
			t.addChains = append(t.addChains, u.pick)
		case existed && !exists:
			t.delChains = append(t.delChains, name)
		}
	}
	for _, c := range d.elements {
		if c.was != nil && c.now != nil && *c.was == *c.now {
			continue
		}
		if c.was != nil {
			t.del = append(t.del, *c.was)
		}
		if c.now != nil {
			t.add = append(t.add, *c.now)
		}
	}
	t.sort()
	return t
}

func (t *transaction) sort() {
	slices.SortFunc(t.addChains, comparePicks)
	slices.Sort(t.delChains)
	slices.SortFunc(t.del, element.compare)
	slices.SortFunc(t.add, element.compare)
}

// picks are all chains in use that choose, sorted.
func (r *ruleset) picks() []pick {
	var out []pick
	for _, u := range r.chains {
		out = append(out, u.pick)
	}
	slices.SortFunc(out, comparePicks)
	return out
}

// elements is the whole desired content.
func (r *ruleset) elements() map[frontKey]string {
	out := make(map[frontKey]string, 16*len(r.services))
	for name, s := range r.services {
		for _, f := range s.fronts {
			if r.owner[frontKey{f.entry.set, f.entry.key}] != name {
				continue
			}
			out[frontKey{f.entry.set, f.entry.key}] = f.entry.value
			for _, e := range f.elements {
				out[frontKey{e.set, e.key}] = e.value
			}
		}
	}
	for e := range r.shared {
		out[frontKey{e.set, e.key}] = e.value
	}
	for _, a := range r.nodes {
		out[frontKey{setNodes, join(a)}] = ""
	}
	return out
}

// compareElements finds what must go and what must come.
func compareElements(have, want map[frontKey]string) (del, add []element) {
	for k, v := range have {
		if w, ok := want[k]; !ok || w != v {
			del = append(del, element{k.set, k.key, v})
		}
	}
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			add = append(add, element{k.set, k.key, v})
		}
	}
	slices.SortFunc(del, element.compare)
	slices.SortFunc(add, element.compare)
	return del, add
}
