//go:build invariants || race

package watchcache

import (
	"fmt"
	"slices"
)

// check proves the invariants of a cache after a step; c.mu is held. It exists in test builds only.
func (c *cache) check() {
	r := &c.ring
	if r.first > r.warm || r.warm > r.next || r.len() > len(r.buf) {
		panic(fmt.Sprintf("%s: ring out of shape: first %d warm %d next %d of %d", c.kind.Plural, r.first, r.warm, r.next, len(r.buf)))
	}
	if r.len() > 0 {
		if a, b := r.at(r.first), r.at(r.next-1); a.rev <= r.floor || b.rev > c.rev.Load() || a.rev > b.rev {
			panic(fmt.Sprintf("%s: ring spans (%d, %d] but floor is %d and the cache is at %d", c.kind.Plural, a.rev, b.rev, r.floor, c.rev.Load()))
		}
	}
	for _, t := range c.topics.narrow {
		if t.watchers <= 0 || !slices.IsSorted(t.seqs) || len(t.seqs) > 0 && t.seqs[len(t.seqs)-1] >= r.next {
			panic(fmt.Sprintf("%s: topic %+v out of shape", c.kind.Plural, t.of))
		}
	}
}
