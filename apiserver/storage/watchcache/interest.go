package watchcache

import (
	"sort"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/selection"

	"pilothouse.dev/apiserver/storage"
)

// interest is the narrowest part of a kind's changes that can concern a watcher: everything (the zero value), one object, one
// namespace, or one value of a selectable field. Watchers of the same interest share a topic; a change wakes only the topics
// it belongs to, so of a thousand kubelets each with its own spec.nodeName one is woken.
type interest struct {
	by          byte // 0: everything
	field, a, b string
}

const (
	byObject    = 'o' // a, b: namespace, name
	byField     = 'f' // field = a
	byNamespace = 'n' // a
)

// interestOf finds the interest of a selector. It may be wider than the selector, never narrower.
func interestOf(s *storage.Selector, namespaced bool) interest {
	key := exactly(s)
	var field interest
	if s.Fields != nil {
		for _, r := range s.Fields.Requirements() {
			if r.Operator != selection.Equals && r.Operator != selection.DoubleEquals {
				continue
			}
			// A value beats the empty one: «not yet on a node» is wider than «on this node».
			if key := r.Field == "metadata.name" || r.Field == "metadata.namespace"; !key && (field.by == 0 || field.a == "") {
				field = interest{by: byField, field: r.Field, a: r.Value}
			}
		}
	}
	switch {
	case key.Valid(namespaced):
		return interest{by: byObject, a: key.Namespace, b: key.Name}
	case field.by != 0:
		return field
	case key.Namespace != "":
		return interest{by: byNamespace, a: key.Namespace}
	}
	return interest{}
}

// topic is where the watchers of one interest wait.
type topic struct {
	of interest

	// Guarded by the cache's mu.
	watchers int
	dirty    bool     // in topics.dirty
	since    uint64   // INVARIANT: every change numbered since or later that concerns the topic is in seqs or before lost
	lost     uint64   // one after the last number that seqs had and the ring dropped
	seqs     []uint64 // ascending; unused for the topic of everything
	wake     chan struct{}
	woken    time.Time
	timer    *time.Timer // set while a wake-up is put off

	waiting atomic.Bool // somebody waits on wake; set under the read lock
}

// A wake-up of n watchers keeps the machine busy for about n × wakeCost, so waking them again sooner would only make their
// writes smaller. The first after a quiet time is never put off.
const (
	wakeCost = 10 * time.Microsecond
	paceMin  = time.Millisecond
	paceMax  = 20 * time.Millisecond
)

func (t *topic) pace() time.Duration {
	if p := time.Duration(t.watchers) * wakeCost; p >= paceMin {
		return min(p, paceMax)
	}
	return 0
}

// release wakes all who wait.
func (t *topic) release() {
	if t.waiting.Swap(false) {
		close(t.wake)
		t.wake = make(chan struct{})
	}
}

// topics are those of one kind that have watchers, and the one of everything.
type topics struct {
	all    *topic
	narrow map[interest]*topic
	by     map[byte]int   // how many narrow ones of each sort
	fields map[string]int // how many of each field
	dirty  []*topic       // concerned by the present step
}

func newTopics() topics {
	return topics{
		all:    &topic{wake: make(chan struct{})},
		narrow: map[interest]*topic{}, by: map[byte]int{}, fields: map[string]int{},
	}
}

// join returns the topic of an interest for one more watcher; next is the number of the change to come.
func (ts *topics) join(of interest, next uint64) *topic {
	t := ts.all
	if of.by != 0 {
		if t = ts.narrow[of]; t == nil {
			t = &topic{of: of, since: next, wake: make(chan struct{})}
			ts.narrow[of] = t
			ts.by[of.by]++
			if of.by == byField {
				ts.fields[of.field]++
			}
		}
	}
	t.watchers++
	return t
}

func (ts *topics) leave(t *topic) {
	if t.watchers--; t.watchers > 0 || t.of.by == 0 {
		return
	}
	delete(ts.narrow, t.of)
	ts.by[t.of.by]--
	if t.of.by == byField {
		if ts.fields[t.of.field]--; ts.fields[t.of.field] == 0 {
			delete(ts.fields, t.of.field)
		}
	}
	if t.timer != nil {
		t.timer.Stop()
	}
}

// note files change number seq under every topic it concerns: where the object is now and where it was.
func (ts *topics) note(seq uint64, c *change) {
	ts.mark(ts.all, seq)
	if len(ts.narrow) == 0 {
		return
	}
	some := c.now
	if some == nil {
		some = c.was
	}
	if ts.by[byObject] > 0 {
		ts.mark(ts.narrow[interest{by: byObject, a: some.Key.Namespace, b: some.Key.Name}], seq)
	}
	if ts.by[byNamespace] > 0 {
		ts.mark(ts.narrow[interest{by: byNamespace, a: some.Key.Namespace}], seq)
	}
	for f := range ts.fields {
		if c.now != nil {
			ts.mark(ts.narrow[interest{by: byField, field: f, a: c.now.Attrs.Fields[f]}], seq)
		}
		if c.was != nil {
			ts.mark(ts.narrow[interest{by: byField, field: f, a: c.was.Attrs.Fields[f]}], seq)
		}
	}
}

func (ts *topics) mark(t *topic, seq uint64) {
	if t == nil {
		return
	}
	if t.of.by != 0 && (len(t.seqs) == 0 || t.seqs[len(t.seqs)-1] != seq) {
		t.seqs = append(t.seqs, seq)
	}
	if !t.dirty {
		t.dirty = true
		ts.dirty = append(ts.dirty, t)
	}
}

// settle ends a step: topics forget what the ring dropped (all before first), and the concerned ones are woken, now or as soon
// as their pace allows by calling later.
func (ts *topics) settle(first uint64, now time.Time, later func(*topic)) {
	for _, t := range ts.dirty {
		t.dirty = false
		t.drop(first)
		switch pace := t.pace(); {
		case t.timer != nil: // will be woken
		case now.Sub(t.woken) >= pace:
			t.woken = now
			t.release()
		default:
			t.timer = time.AfterFunc(min(pace, pace-now.Sub(t.woken)), func() { later(t) })
		}
	}
	clear(ts.dirty)
	ts.dirty = ts.dirty[:0]
}

// drop forgets the numbers before first.
func (t *topic) drop(first uint64) {
	n := sort.Search(len(t.seqs), func(i int) bool { return t.seqs[i] >= first })
	if n > 0 {
		t.lost = t.seqs[n-1] + 1
		t.seqs = append(t.seqs[:0], t.seqs[n:]...)
	}
}

// after is the numbers from cursor on.
func (t *topic) after(cursor uint64) []uint64 {
	if n := len(t.seqs); n == 0 || t.seqs[n-1] < cursor {
		return nil
	}
	return t.seqs[sort.Search(len(t.seqs), func(i int) bool { return t.seqs[i] >= cursor }):]
}
