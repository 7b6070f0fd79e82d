package loop

import (
	"slices"
	"sync"
)

// Told remembers what the last look at each key had to say, so that a look that finds the same does not say it again: events tell
// changes. Safe for concurrent use.
type Told[N comparable] struct {
	mu   sync.Mutex
	last map[Key][]N // guarded by mu
}

// NewTold makes an empty memory.
func NewTold[N comparable]() *Told[N] { return &Told[N]{last: map[Key][]N{}} }

// News notes what there is to say of a key now, and returns what of it the last look did not say. Nothing to say forgets the key.
func (t *Told[N]) News(k Key, now []N) (news []N) {
	t.mu.Lock()
	before := t.last[k]
	if len(now) > 0 {
		t.last[k] = now
	} else {
		delete(t.last, k)
	}
	t.mu.Unlock()
	for _, n := range now {
		if !slices.Contains(before, n) {
			news = append(news, n)
		}
	}
	return news
}
