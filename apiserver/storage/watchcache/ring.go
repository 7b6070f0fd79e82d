package watchcache

import (
	"sort"
	"sync/atomic"
	"time"

	"pilothouse.dev/apiserver/storage"
)

// The bounds of a ring; doc.go says them in words.
const (
	keepChanges = 256
	keepFor     = 75 * time.Second
	maxChanges  = 32768
	minBytes    = 4 << 20
	maxBytes    = 64 << 20

	recentChanges = 1024
	recentFor     = 5 * time.Second

	changeSize = 160 // bytes of a change beside the value it outdates
)

// change is one step of one key.
type change struct {
	rev int64
	at  time.Time
	now *storage.Entry // nil when deleted
	was *storage.Entry // nil when new; INVARIANT: not both nil

	last atomic.Pointer[storage.Entry] // what gone made
}

// gone is the state before the change at the revision of the change: what those are told for whom the object is no more. All
// share one entry, and so its encodings.
func (c *change) gone() *storage.Entry {
	if e := c.last.Load(); e != nil {
		return e
	}
	c.last.CompareAndSwap(nil, &storage.Entry{Key: c.was.Key, Revision: c.rev, Value: c.was.Value, Attrs: c.was.Attrs})
	return c.last.Load()
}

// size is what the ring alone keeps alive: each value is counted once, when it is outdated.
func (c *change) size() int {
	if c.was == nil {
		return changeSize
	}
	return changeSize + len(c.was.Value)
}

// forget drops the shared encodings of what the change told.
func (c *change) forget() {
	if c.now != nil {
		c.now.Forget()
	}
	if e := c.last.Load(); e != nil {
		e.Forget()
	}
}

// ring holds the latest changes by sequence number: change n stands at buf[n % len(buf)]. Numbers are never used twice.
// INVARIANT: first ≤ warm ≤ next, next-first ≤ len(buf), revisions ascend, and every change after revision floor is in.
type ring struct {
	buf   []*change // a power of two long
	first uint64    // the oldest kept
	next  uint64    // the one to come
	warm  uint64    // the oldest whose encodings are kept
	floor int64
	bytes int
}

func (r *ring) len() int                { return int(r.next - r.first) }
func (r *ring) at(seq uint64) *change   { return r.buf[seq&uint64(len(r.buf)-1)] }
func (r *ring) put(s uint64, c *change) { r.buf[s&uint64(len(r.buf)-1)] = c }

// add appends c and returns its number.
func (r *ring) add(c *change) uint64 {
	if r.len() == len(r.buf) {
		r.resize(max(64, 2*len(r.buf)))
	}
	r.put(r.next, c)
	r.bytes += c.size()
	r.next++
	return r.next - 1
}

// trim drops what the bounds no longer allow, given the bytes of the present state.
func (r *ring) trim(now time.Time, stored int) {
	bytes := min(max(stored/2, minBytes), maxBytes)
	for r.len() > 0 {
		old := r.at(r.first)
		must := r.len() > maxChanges || r.bytes > bytes
		may := r.len() > keepChanges && now.Sub(old.at) > keepFor
		if !must && !may {
			break
		}
		r.put(r.first, nil)
		r.bytes -= old.size()
		r.floor = old.rev
		r.first++
	}
	r.warm = max(r.warm, r.first)
	if n := len(r.buf); n > 64 && r.len() < n/4 {
		r.resize(n / 2)
	}
}

// cool returns the changes that ceased to be recent, appended to out, for the caller to forget.
func (r *ring) cool(now time.Time, out []*change) []*change {
	for r.warm < r.next {
		c := r.at(r.warm)
		if r.next-r.warm <= recentChanges && now.Sub(c.at) <= recentFor {
			break
		}
		out = append(out, c)
		r.warm++
	}
	return out
}

// clear drops everything: history before floor is lost. Numbers go on.
func (r *ring) clear(floor int64) {
	*r = ring{first: r.next, next: r.next, warm: r.next, floor: floor}
}

// after is the number of the first change after revision rev; false when history no longer reaches back to rev.
func (r *ring) after(rev int64) (uint64, bool) {
	if rev < r.floor {
		return 0, false
	}
	n := sort.Search(r.len(), func(i int) bool { return r.at(r.first+uint64(i)).rev > rev })
	return r.first + uint64(n), true
}

func (r *ring) resize(n int) {
	old := *r
	r.buf = make([]*change, n)
	for s := r.first; s < r.next; s++ {
		r.put(s, old.at(s))
	}
}
