package statefulset

import (
	"sync"
	"time"
)

// How long a pod that has failed lies before it is replaced, once its predecessor has failed too, and at the most.
const (
	firstHold = time.Second
	worstHold = time.Minute
)

// holds remember pods that were removed because they had failed, so that one that always does is replaced less and less often. They are
// forgotten after a while, and at the end of a term. Safe for concurrent use.
type holds struct {
	mu    sync.Mutex
	falls map[string]fall // guarded by mu
}

type fall struct {
	at   time.Time
	hold time.Duration // for the next one, since then
}

func newHolds() *holds { return &holds{falls: map[string]fall{}} }

// fell notes that the pod of that key failed and is removed now.
func (h *holds) fell(key string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, f := range h.falls {
		if now.Sub(f.at) > 2*worstHold {
			delete(h.falls, k)
		}
	}
	f := fall{at: now, hold: firstHold}
	if last, again := h.falls[key]; again {
		f.hold = min(2*last.hold, worstHold)
	}
	h.falls[key] = f
}

// left is how long the pod of that key is to lie yet, should it have failed again; 0: not at all.
func (h *holds) left(key string, now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, there := h.falls[key]
	if !there {
		return 0
	}
	return max(f.at.Add(f.hold).Sub(now), 0)
}
