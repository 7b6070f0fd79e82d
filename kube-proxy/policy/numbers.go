package policy

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// numbers hands out numbers from 1 (or above) to a limit.
type numbers struct {
	first, next uint32
	limit       uint32
	used        map[uint32]bool
	free        []uint32
	resting     []uint32 // given back, but not free before the next settle
}

func newNumbers(first, limit uint32) *numbers {
	return &numbers{first: first, next: first, limit: limit, used: map[uint32]bool{}}
}

// take gives the number wished for if it is to be had, else another; 0 if there
// are no more.
func (n *numbers) take(wish uint32) uint32 {
	if wish >= n.first && wish <= n.limit && !n.used[wish] {
		n.used[wish] = true
		return wish
	}
	for len(n.free) > 0 {
		x := n.free[len(n.free)-1]
		n.free = n.free[:len(n.free)-1]
		if !n.used[x] {
			n.used[x] = true
			return x
		}
	}
	for ; n.next <= n.limit; n.next++ {
		if !n.used[n.next] {
			n.used[n.next] = true
			n.next++
			return n.next - 1
		}
	}
	return 0
}

func (n *numbers) give(x uint32) {
	if x != 0 {
		n.resting = append(n.resting, x)
	}
}

// settle frees what was given back: no element of it is left in the kernel.
func (n *numbers) settle() {
	for _, x := range n.resting {
		delete(n.used, x)
	}
	n.free = append(n.free, n.resting...)
	n.resting = nil
}

// entry is something with a number in the kernel.
type entry[C any] struct {
	number  uint32 // 0: there was none left
	key     string
	content C
	refs    int
	idle    time.Time // since when refs is 0
}

// catalog numbers things by their content. What nobody refers to any more keeps
// its number, and its elements in the kernel, for a while: a packet that read the
// number before a transaction may ask for it after, and a pod that is replaced by
// its like finds all as it was.
type catalog[C any] struct {
	byKey   map[string]*entry[C]
	idle    map[*entry[C]]struct{}
	numbers *numbers
}

func newCatalog[C any](first, limit uint32) *catalog[C] {
	return &catalog[C]{byKey: map[string]*entry[C]{}, idle: map[*entry[C]]struct{}{}, numbers: newNumbers(first, limit)}
}

// find gives the entry of that content, with one more reference, or nil.
func (c *catalog[C]) find(key string) *entry[C] {
	e := c.byKey[key]
	if e != nil {
		c.hold(e)
	}
	return e
}

// add makes an entry, with one reference.
func (c *catalog[C]) add(key string, content C, wish uint32) *entry[C] {
	e := &entry[C]{number: c.numbers.take(wish), key: key, content: content, refs: 1}
	c.byKey[key] = e
	return e
}

func (c *catalog[C]) hold(e *entry[C]) {
	if e.refs == 0 {
		delete(c.idle, e)
	}
	e.refs++
}

func (c *catalog[C]) drop(e *entry[C], now time.Time) {
	if e.refs--; e.refs == 0 {
		e.idle = now
		c.idle[e] = struct{}{}
	}
}

// rekey gives an idle entry another content; it keeps its number.
func (c *catalog[C]) rekey(e *entry[C], key string, content C) {
	delete(c.byKey, e.key)
	c.hold(e)
	e.key, e.content = key, content
	c.byKey[key] = e
}

// sweep takes out what has been idle since before then.
func (c *catalog[C]) sweep(then time.Time, gone func(*entry[C])) {
	for e := range c.idle {
		if e.idle.After(then) {
			continue
		}
		delete(c.idle, e)
		delete(c.byKey, e.key)
		c.numbers.give(e.number)
		gone(e)
	}
}

// sorted is all entries by number, idle ones too.
func (c *catalog[C]) sorted() []*entry[C] {
	return slices.SortedFunc(maps.Values(c.byKey), func(a, b *entry[C]) int { return cmp.Compare(a.number, b.number) })
}

// move is a wish to refer to other content than before.
type move[C any] struct {
	from *entry[C] // given up already; nil: none
	key  string    // of the content wished for
	make func() C
	wish uint32 // the number it had in an older run
	done func(*entry[C])
}

// settle fulfils moves and returns the entries whose content is new. If all who
// referred to an entry leave it, the first of them takes its number along.
func (c *catalog[C]) settle(moves []move[C]) (fresh []*entry[C]) {
	rest := moves[:0]
	for _, m := range moves {
		if e := c.find(m.key); e != nil {
			m.done(e)
		} else {
			rest = append(rest, m)
		}
	}
	for _, m := range rest {
		e := c.find(m.key)
		switch {
		case e != nil:
		case m.from != nil && m.from.refs == 0:
			e = m.from
			c.rekey(e, m.key, m.make())
			fresh = append(fresh, e)
		default:
			e = c.add(m.key, m.make(), m.wish)
			fresh = append(fresh, e)
		}
		m.done(e)
	}
	return fresh
}
