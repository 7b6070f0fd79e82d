package nftables

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

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
}

func (t transaction) empty() bool {
	return len(t.addChains)+len(t.del)+len(t.add) == 0
}

// ruleset is the desired content of the kernel's table, and moves from wish to
// wish. Owned by the Writer; holds no connection to anything.
type ruleset struct {
	family family
	// What an older run left in the kernel, while the first wish is rendered:
	// its endpoints keep their numbers.
	found map[frontKey]string

	table    *changes.Table
	nodes    []netip.Addr
	services map[changes.Name]*rendered
	owner    map[frontKey]changes.Name // who answers a front that several claim: the first
	shared   map[element]int           // how many services want it
	picks    map[pick]bool             // whose chains are made
	lost     map[changes.Name]bool     // services that lost a front to another
	ranged   map[changes.Name]bool     // services with source ranges: what they allow depends on the node's addresses

	// Elements of hairpin that no service wants any more, and since when. A packet
	// that was sent to its own pod before a transaction meets the rule that gives
	// it the node's address after it; without it the connection never opens, for
	// the kernel has decided. So they go with a later transaction.
	resting map[element]time.Time
	clock   func() time.Time
}

// hairpinRest is longer than a packet takes from prerouting to postrouting.
const hairpinRest = time.Second

// frontKey identifies a front: an element of services or node-ports.
type frontKey struct{ set, key string }

func newRuleset(f family) *ruleset {
	return &ruleset{
		family:   f,
		table:    &changes.Table{},
		services: map[changes.Name]*rendered{},
		owner:    map[frontKey]changes.Name{},
		shared:   map[element]int{},
		picks:    map[pick]bool{},
		lost:     map[changes.Name]bool{},
		ranged:   map[changes.Name]bool{},
		resting:  map[element]time.Time{},
		clock:    time.Now,
	}
}

// inherit takes over what an older run left in the kernel: its endpoints keep
// their numbers while the first wish is rendered, and its hairpins rest.
func (r *ruleset) inherit(elements map[frontKey]string) {
	r.found = elements
	now := r.clock()
	for k := range elements {
		if k.set == setHairpin {
			r.resting[element{set: k.set, key: k.key}] = now
		}
	}
}

// begin moves a new ruleset to its first wish; the difference to nothing is of no
// interest.
func (r *ruleset) begin(w Wish) {
	n := w.Table.Len()
	r.services, r.owner, r.shared = make(map[changes.Name]*rendered, n), make(map[frontKey]changes.Name, n), make(map[element]int, n)
	r.move(&difference{ruleset: r}, w)
	r.found = nil
}

// advance moves the ruleset to the wish and returns the difference. Its cost is
// that of the services that changed.
func (r *ruleset) advance(w Wish) *difference {
	d := &difference{ruleset: r, elements: map[frontKey]change{}}
	r.move(d, w)
	return d
}

func (r *ruleset) move(d *difference, w Wish) {

	for e, since := range r.resting {
		if r.clock().Sub(since) >= hairpinRest {
			delete(r.resting, e)
			d.remove(e)
		}
	}
	if len(r.picks) == 0 {
		for _, p := range usualPicks() {
			d.use(p)
		}
	}
	gone, came := changes.Compare(r.table, w.Table)
	moved := !slices.Equal(r.nodes, w.NodeAddresses)
	if len(r.lost) > 0 && len(gone) > 0 || len(r.ranged) > 0 && moved {
		// A front may have become free for one that lost it: contend again.
		gone, came = r.table.Services(), w.Table.Services()
	}
	before := r.nodes
	r.nodes = slices.Clone(w.NodeAddresses)
	was := make(map[changes.Name]*rendered, len(gone))
	for _, s := range gone {
		was[s.Name] = r.services[s.Name]
		d.release(s.Name)
	}
	for _, s := range came {
		d.claim(s, was[s.Name])
	}
	if d.unfair { // a newcomer is before one that has its front
		was = maps.Clone(r.services)
		for name := range was {
			d.release(name)
		}
		for s := range w.Table.All() {
			d.claim(s, was[s.Name])
		}
	}
	if moved {
		d.nodeAddresses(before, r.nodes)
	}
	r.table = w.Table
}

// difference gathers what one advance changes. What goes and comes back cancels out.
type difference struct {
	*ruleset
	addChains []pick
	elements  map[frontKey]change // nil: nobody asks
	unfair    bool                // a service lost a front to one that comes after it
}

// change is an element before and after; nil: not there.
type change struct{ was, now *element }

func (d *difference) put(e element) {
	if d.elements == nil {
		return
	}
	k := frontKey{e.set, e.key}
	c := d.elements[k]
	c.now = &e
	d.elements[k] = c
}

func (d *difference) remove(e element) {
	if d.elements == nil {
		return
	}
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
	delete(d.ranged, name)
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
	}
	for _, e := range r.shared {
		if d.shared[e]--; d.shared[e] == 0 {
			delete(d.shared, e)
			if e.set == setHairpin {
				d.resting[e] = d.clock()
			} else {
				d.remove(e)
			}
		}
	}
}

// claim renders a service and puts its elements in; a front that another
// service answers already is left to that one. Of several the first by name is to
// have it.
func (d *difference) claim(s *changes.Service, was *rendered) {
	if was == nil && len(d.found) > 0 {
		was = &rendered{numbers: numbersIn(d.found, s, 0), locals: numbersIn(d.found, s, localNumbers)}
	}
	r := render(s, was, d.family, d.nodes)
	if len(s.SourceRanges) > 0 {
		d.ranged[s.Name] = true
	}
	d.services[s.Name] = r
	for _, f := range r.fronts {
		k := frontKey{f.entry.set, f.entry.key}
		if owner, taken := d.owner[k]; taken {
			d.lost[s.Name] = true
			d.unfair = d.unfair || s.Name.Compare(owner) < 0
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
		if d.shared[e]++; d.shared[e] > 1 {
			continue
		}
		if _, there := d.resting[e]; there {
			delete(d.resting, e)
		} else {
			d.put(e)
		}
	}
}

// use makes the chain of a pick, unless it was made before.
func (d *difference) use(p pick) {
	if d.picks[p] {
		return
	}
	d.picks[p] = true
	d.put(p.entry())
	if !p.fixed() {
		d.addChains = append(d.addChains, p)
	}
	for _, n := range p.needs() {
		d.use(n)
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
	t := transaction{addChains: d.addChains}
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
	slices.SortFunc(t.del, element.compare)
	slices.SortFunc(t.add, element.compare)
}

// chains are all picks that have a chain of their own, sorted.
func (r *ruleset) chains() []pick {
	out := slices.SortedFunc(maps.Keys(r.picks), comparePicks)
	return slices.DeleteFunc(out, pick.fixed)
}

// elements yields the whole desired content, each element once.
func (r *ruleset) elements() iter.Seq[element] {
	return func(yield func(element) bool) {
		for name, s := range r.services {
			for _, f := range s.fronts {
				if r.owner[frontKey{f.entry.set, f.entry.key}] != name {
					continue
				}
				if !yield(f.entry) {
					return
				}
				for _, e := range f.elements {
					if !yield(e) {
						return
					}
				}
			}
		}
		for e := range r.shared {
			if !yield(e) {
				return
			}
		}
		for e := range r.resting {
			if !yield(e) {
				return
			}
		}
		for p := range r.picks {
			if !yield(p.entry()) {
				return
			}
		}
		for _, a := range r.nodes {
			if !yield(element{set: setNodes, key: join(a)}) {
				return
			}
		}
	}
}

// count is how many elements there are, or a few less.
func (r *ruleset) count() int {
	n := len(r.shared) + len(r.picks) + len(r.nodes)
	for _, s := range r.services {
		for _, f := range s.fronts {
			n += 1 + len(f.elements)
		}
	}
	return n
}

// compareElements finds what must go and what must come; many is about how many
// are wanted. It leaves in have what must go.
func compareElements(have map[frontKey]string, want iter.Seq[element], many int) (del, add []element) {
	if len(have) == 0 { // a load
		add = make([]element, 0, many)
	}
	for e := range want {
		if len(have) > 0 {
			k := frontKey{e.set, e.key}
			if v, there := have[k]; there && v == e.value {
				delete(have, k)
				continue
			}
		}
		add = append(add, e)
	}
	for k, v := range have {
		del = append(del, element{k.set, k.key, v})
	}
	return bySet(del), bySet(add)
}

// bySet brings elements of one set together; their order within it is of no
// interest to the kernel.
func bySet(all []element) []element {
	counts := make(map[string]int, len(setSpecs))
	for _, e := range all {
		counts[e.set]++
	}
	at, next := make(map[string]int, len(setSpecs)), 0
	for _, s := range setSpecs {
		at[s.name] = next
		next += counts[s.name]
	}
	out := make([]element, len(all))
	for _, e := range all {
		i := at[e.set]
		out[i] = e
		at[e.set] = i + 1
	}
	return out
}
