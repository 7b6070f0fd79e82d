package watchcache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// fresh answers «what is etcd's newest revision» for all kinds. Whoever asks joins the next question; all who wait when it is
// sent share its answer, which is right for each of them because it was asked after they came. So a thousand readers cost one
// round trip, and a reader waits for at most the rest of one question and one of its own.
type fresh struct {
	ask      func(context.Context) (int64, error)
	replaced func() // called when etcd's revision went back: its data is not what it was
	timeout  time.Duration
	seen     atomic.Int64 // the newest revision that anything in this process has met
	kick     chan struct{}

	mu   sync.Mutex
	next *question // that the next to come join; nil when nobody waits
}

type question struct {
	done chan struct{}
	rev  int64
	err  error
}

func newFresh(ask func(context.Context) (int64, error), replaced func()) *fresh {
	return &fresh{ask: ask, replaced: replaced, timeout: 5 * time.Second, kick: make(chan struct{}, 1)}
}

// run sends the questions until ctx ends.
func (f *fresh) run(ctx context.Context) {
	for {
		select {
		case <-f.kick:
		case <-ctx.Done():
			f.answer(ctx, f.take())
			return
		}
		f.answer(ctx, f.take())
	}
}

func (f *fresh) take() *question {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.next
	f.next = nil
	return q
}

func (f *fresh) answer(ctx context.Context, q *question) {
	if q == nil {
		return
	}
	defer close(q.done)
	before := f.seen.Load()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if q.rev, q.err = f.ask(ctx); q.err != nil {
		return
	}
	if q.rev < before {
		f.seen.Store(q.rev)
		f.replaced()
		return
	}
	f.saw(q.rev)
}

// revision is at or above every revision acknowledged before the call.
func (f *fresh) revision(ctx context.Context) (int64, error) {
	f.mu.Lock()
	q := f.next
	if q == nil {
		q = &question{done: make(chan struct{})}
		f.next = q
		select {
		case f.kick <- struct{}{}:
		default:
		}
	}
	f.mu.Unlock()
	select {
	case <-q.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for a consistent read: %w", ctx.Err())
	}
	if q.err != nil {
		return 0, fmt.Errorf("waiting for a consistent read: %w", q.err)
	}
	return q.rev, nil
}

// saw notes a revision met on the way.
func (f *fresh) saw(rev int64) {
	for {
		old := f.seen.Load()
		if rev <= old || f.seen.CompareAndSwap(old, rev) {
			return
		}
	}
}
