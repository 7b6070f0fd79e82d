package images

import (
	"sync"
	"time"
)

// backOff remembers failed pulls: each failure doubles the wait before the next try.
type backOff struct {
	first, longest time.Duration

	mu    sync.Mutex
	tries map[string]try
}

type try struct {
	until time.Time
	wait  time.Duration
	why   error
}

func newBackOff(first, longest time.Duration) *backOff {
	return &backOff{first: first, longest: longest, tries: make(map[string]try)}
}

// waiting is the last failure while its wait is not over, else nil.
func (b *backOff) waiting(key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.tries[key]; time.Now().Before(t.until) {
		return t.why
	}
	return nil
}

func (b *backOff) failed(key string, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for k, t := range b.tries {
		// Who has not come back for so long is gone, or begins anew.
		if now.After(t.until.Add(2 * b.longest)) {
			delete(b.tries, k)
		}
	}
	wait := b.first
	if t, ok := b.tries[key]; ok {
		wait = min(t.wait*2, b.longest)
	}
	b.tries[key] = try{until: now.Add(wait), wait: wait, why: why}
}

func (b *backOff) succeeded(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.tries, key)
}
