package policy

import (
	"cmp"
	"maps"
	"slices"
)

// slot is where an element is: there is one at most.
type slot struct{ set, key string }

// change is an element before and after; nil: not there.
type change struct{ was, now *element }

// difference gathers what one advance changes. What goes and comes back cancels out.
type difference struct {
	*ruleset
	dirty     map[*address]bool // to be placed again
	elements  map[slot]change
	addChains []string // of groups
	delChains []string
	rewrite   []string // fixed chains whose rules have changed
	recut     [2]bool  // the spans of a family are others
	short     bool     // there were not enough numbers
}

func (d *difference) put(e element) {
	k := slot{e.set, e.key}
	c := d.elements[k]
	c.now = &e
	d.elements[k] = c
}

func (d *difference) remove(e element) {
	k := slot{e.set, e.key}
	c, touched := d.elements[k]
	if !touched {
		c.was = &e
	}
	c.now = nil
	d.elements[k] = c
}

// transaction is what to change, in two steps. The first writes what nobody asks
// for yet, for the kernel shows sets of ranges to packets a little later than all
// else; the second does the rest at once.
type transaction struct {
	fill  []fill    // first
	ahead []element // first

	addChains []string
	rewrite   []string
	del, add  []element
	delChains []string
}

// fill gives a map of spans other content.
type fill struct {
	set   string
	spans []placed
}

func (t transaction) empty() bool {
	return len(t.fill)+len(t.ahead)+len(t.addChains)+len(t.rewrite)+len(t.del)+len(t.add)+len(t.delChains) == 0
}

// elements counts what is added and deleted.
func (t transaction) elements() int {
	n := len(t.ahead) + len(t.del) + len(t.add)
	for _, f := range t.fill {
		n += len(f.spans)
	}
	return n
}

// transaction writes the difference down, sorted.
func (d *difference) transaction() transaction {
	t := transaction{addChains: d.addChains, rewrite: d.rewrite, delChains: d.delChains}
	for i, f := range families {
		if d.recut[i] {
			t.fill = append(t.fill, fill{f.name(spanSets[d.active[i]]), d.spans[i]})
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
			t.put(*c.now)
		}
	}
	t.sort()
	return t
}

// put adds an element in the step it belongs to.
func (t *transaction) put(e element) {
	if e.set == setPortRanges {
		t.ahead = append(t.ahead, e)
	} else {
		t.add = append(t.add, e)
	}
}

func (t *transaction) sort() {
	slices.Sort(t.addChains)
	slices.Sort(t.delChains)
	slices.Sort(t.rewrite)
	t.rewrite = slices.Compact(t.rewrite)
	for _, list := range [][]element{t.ahead, t.del, t.add} {
		slices.SortFunc(list, element.compare)
	}
}

func (e element) compare(o element) int {
	return cmp.Or(cmp.Compare(e.set, o.set), cmp.Compare(e.key, o.key), cmp.Compare(e.value, o.value))
}

// content is all elements the kernel should hold, but for the spans.
func (r *ruleset) content() map[slot]string {
	out := make(map[slot]string, 2*len(r.addresses)+len(r.pairs))
	for _, a := range r.addresses {
		for _, e := range a.elements() {
			out[slot{e.set, e.key}] = e.value
		}
	}
	for k, right := range r.pairs {
		out[slot{setRights, join(k)}] = join(right.number)
	}
	for _, right := range r.rights.byKey {
		for _, e := range right.content.elements(right.number) {
			out[slot{e.set, e.key}] = e.value
		}
	}
	return out
}

// mend is the transaction from what was found to what should be.
func (r *ruleset) mend(have *found) transaction {
	var t transaction
	want := r.content()
	for k, v := range have.elements {
		if w, ok := want[k]; !ok || w != v {
			t.del = append(t.del, element{k.set, k.key, v})
		}
	}
	for k, v := range want {
		if h, ok := have.elements[k]; !ok || h != v {
			t.put(element{k.set, k.key, v})
		}
	}
	for i, f := range families {
		set := f.name(spanSets[r.active[i]])
		if !maps.Equal(have.spans[set], spanElements(r.spans[i])) {
			t.fill = append(t.fill, fill{set, r.spans[i]})
		}
	}
	t.sort()
	return t
}
