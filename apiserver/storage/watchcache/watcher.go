package watchcache

import (
	"context"
	"sync"
	"time"

	"pilothouse.dev/apiserver/storage"
)

const (
	initialBatch = 500 // entries of the present state told at once
	takeAtOnce   = 64  // changes looked at under one lock
	fullBatch    = 512 // events after which Next returns without looking for more
	idleEvents   = 8   // room for events that a waiting watcher may hold
)

// watcher is one watch: a cursor into the ring. It is in one of three phases:
//
//	initial      telling the snapshot it began on, key by key
//	catching up  the cursor is older than its topic: it goes through the whole ring
//	in step      it takes from its topic only
//
// All but done and once is owned by the goroutine that calls Next.
type watcher struct {
	c     *cache
	o     storage.WatchOptions
	topic *topic
	epoch uint64

	cursor   uint64    // INVARIANT: every change numbered below was told or does not match
	stands   int64     // changes at this revision or before are not told
	initial  *snapshot // what is left of it begins after told
	told     storage.Key
	bookmark *time.Timer // nil when none are wanted
	due      bool
	events   []storage.Event

	once sync.Once
	done chan struct{}
}

func (w *watcher) Close() {
	w.once.Do(func() {
		close(w.done)
		w.c.mu.Lock()
		w.c.topics.leave(w.topic)
		w.c.mu.Unlock()
	})
}

func (w *watcher) Next(ctx context.Context) ([]storage.Event, error) {
	w.reuse()
	if w.initial != nil {
		if w.tellInitial(); len(w.events) > 0 {
			return w.events, nil
		}
	}
	var timer <-chan time.Time
	if w.bookmark != nil {
		timer = w.bookmark.C
	}
	for {
		at, wake, err := w.take()
		if err != nil && len(w.events) == 0 {
			return nil, err
		}
		if w.due && wake != nil && err == nil {
			w.due = false
			w.bookmark.Reset(w.c.bookmarks)
			w.events = append(w.events, storage.Event{Type: storage.Bookmark, Revision: max(at, w.stands)})
		}
		if len(w.events) > 0 {
			return w.events, nil // an error is found again next time
		}
		if cap(w.events) > idleEvents {
			w.events = nil
		}
		if w.o.Begun != nil {
			w.o.Begun()
			w.o.Begun = nil
		}
		select {
		case <-wake:
		case <-timer:
			w.due = true
		case <-w.done:
			return nil, context.Canceled
		case <-w.c.removed:
			return nil, errRemoved
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// reuse empties the batch of the last call, so that nothing of it stays alive.
func (w *watcher) reuse() {
	clear(w.events)
	w.events = w.events[:0]
}

// tellInitial appends the next matching entries of the snapshot, and at its end the bookmark that says so.
func (w *watcher) tellInitial() {
	full := false
	w.initial.ascend(exactly(&w.o.Selector), w.c.kind.Namespaced, w.told, func(e *storage.Entry) bool {
		if len(w.events) == initialBatch {
			full = true
			return false
		}
		if w.o.Matches(e) {
			w.events = append(w.events, storage.Event{Type: storage.Added, Entry: e, Revision: e.Revision})
		}
		w.told = e.Key
		return true
	})
	if full {
		return
	}
	w.initial = nil
	if w.o.Bookmarks {
		w.events = append(w.events, storage.Event{Type: storage.Bookmark, Revision: w.stands, InitialEnd: true})
	}
}

// take appends the events since the cursor. When it came to the end of what there is, wake is what to wait for and at is the
// revision up to which all is told.
func (w *watcher) take() (at int64, wake <-chan struct{}, err error) {
	var buf [takeAtOnce]*change
	for len(w.events) < fullBatch {
		w.c.mu.RLock()
		n, err := w.fetch(&buf)
		if n == 0 && err == nil {
			at, wake = w.c.rev.Load(), w.topic.wake
			w.topic.waiting.Store(true)
		}
		w.c.mu.RUnlock()
		if n == 0 || err != nil {
			return at, wake, err
		}
		for _, ch := range buf[:n] {
			if ch.rev <= w.stands {
				continue
			}
			if ev, ok := transition(&w.o.Selector, ch); ok {
				w.events = append(w.events, ev)
			}
		}
	}
	return 0, nil, nil
}

// fetch copies the next changes that may concern the watcher and moves the cursor past them; the cache's mu is held for reading.
func (w *watcher) fetch(buf *[takeAtOnce]*change) (int, error) {
	r, t, n := &w.c.ring, w.topic, 0
	switch {
	case w.epoch != w.c.epoch:
		return 0, storage.ErrCompacted
	case t.of.by == 0 || w.cursor < t.since: // everything, or catching up
		if w.cursor < r.first {
			return 0, storage.ErrCompacted
		}
		for ; n < takeAtOnce && w.cursor < r.next; n++ {
			buf[n] = r.at(w.cursor)
			w.cursor++
		}
	case w.cursor < t.lost:
		return 0, storage.ErrCompacted
	default:
		for _, seq := range t.after(w.cursor) {
			if n == takeAtOnce {
				return n, nil
			}
			buf[n] = r.at(seq)
			w.cursor = seq + 1
			n++
		}
		w.cursor = max(w.cursor, r.next)
	}
	return n, nil
}

// transition is what a change is for a selector: an object that comes to match was added, one that ceases to was deleted.
func transition(sel *storage.Selector, ch *change) (storage.Event, bool) {
	now := ch.now != nil && sel.Matches(ch.now)
	was := ch.was != nil && sel.Matches(ch.was)
	switch {
	case now && was:
		return storage.Event{Type: storage.Modified, Entry: ch.now, Revision: ch.rev}, true
	case now:
		return storage.Event{Type: storage.Added, Entry: ch.now, Revision: ch.rev}, true
	case was:
		return storage.Event{Type: storage.Deleted, Entry: ch.gone(), Revision: ch.rev}, true
	}
	return storage.Event{}, false
}
