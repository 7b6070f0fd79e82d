package stats

import (
	"context"
	"sync"
	"time"
)

// patience is how long one request may count files; what it did not come to is counted by the next.
const patience = 3 * time.Second

// measured keeps what had to be counted file by file.
type measured struct {
	keep time.Duration

	mu   sync.Mutex // held while one is counting: two requests do not count the same
	have map[string]measure
}

type measure struct {
	folder   Folder
	ok       bool // something was counted
	at, used time.Time
}

func newMeasured(keep time.Duration) *measured {
	return &measured{keep: keep, have: map[string]measure{}}
}

// of returns what count said lately, or counts anew. ok is false if nobody has been able to count it yet.
func (m *measured) of(ctx context.Context, key string, count func(context.Context) (Folder, error)) (Folder, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	have := m.have[key]
	have.used = now
	if ctx.Err() == nil && (have.at.IsZero() || now.Sub(have.at) >= m.keep) {
		// What cannot be counted now, because it is gone or the time is over, is counted again when this is too old.
		if f, err := count(ctx); err == nil {
			have.folder, have.ok, have.at = f, true, now
		}
	}
	m.have[key] = have
	return have.folder, have.ok
}

// tidy forgets what nobody asked for in a while.
func (m *measured) tidy() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, have := range m.have {
		if time.Since(have.used) > 2*m.keep+time.Minute {
			delete(m.have, key)
		}
	}
}
