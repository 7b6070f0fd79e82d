package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/storage"
)

// watcher is a direct watch: etcd sends the state before each change too, from which selector transitions are seen.
// Everything but end is owned by the goroutine that calls Next.
type watcher struct {
	s    *store
	o    storage.WatchOptions
	ch   clientv3.WatchChan
	end  context.CancelFunc
	done <-chan struct{}
	ask  func() error // for progress

	initial  []*storage.Entry // not yet told
	stands   int64            // the revision up to which everything was told
	endTold  bool
	bookmark *time.Timer // nil when none are wanted
	due      bool
	events   []storage.Event
}

var errClosed = errors.New("watch closed")

func (s *store) Watch(ctx context.Context, o storage.WatchOptions) (storage.Watcher, error) {
	w := &watcher{s: s, o: o, stands: o.Read.Revision, endTold: true}
	switch {
	case o.Initial:
		page, err := s.List(ctx, storage.ListOptions{Selector: o.Selector, Read: o.Read})
		if err != nil {
			return nil, err
		}
		w.initial, w.stands, w.endTold = page.Entries, page.Revision, !o.Bookmarks
	case w.stands == 0:
		rev, err := s.db.Revision(ctx)
		if err != nil {
			return nil, err
		}
		w.stands = rev
	}
	from, to, _ := s.span(&o.Selector)
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(context.WithoutCancel(ctx)))
	w.end, w.done = sync.OnceFunc(cancel), ctx.Done()
	w.ask = func() error { return s.db.requestProgress(ctx) }
	w.ch = s.db.watch.Watch(ctx, string(from), clientv3.WithRange(string(to)), clientv3.WithRev(w.stands+1),
		clientv3.WithPrevKV(), clientv3.WithFragment())
	if o.Bookmarks {
		w.bookmark = time.NewTimer(s.db.cfg.Bookmarks)
	}
	return w, nil
}

func (w *watcher) Close() { w.end() }

func (w *watcher) Next(ctx context.Context) ([]storage.Event, error) {
	w.events = w.events[:0]
	if w.tellInitial(); len(w.events) > 0 {
		return w.events, nil
	}
	if w.o.Begun != nil {
		w.o.Begun()
		w.o.Begun = nil
	}
	var due <-chan time.Time
	if w.bookmark != nil {
		due = w.bookmark.C
	}
	for len(w.events) == 0 {
		select {
		case resp, ok := <-w.ch:
			select {
			case <-w.done:
				return nil, errClosed
			default:
			}
			if err := watchEnd(resp, ok); err != nil {
				return nil, fmt.Errorf("watching %s: %w", w.s.kind.Plural, err)
			}
			if err := w.take(ctx, resp); err != nil {
				return nil, fmt.Errorf("watching %s: %w", w.s.kind.Plural, err)
			}
		case <-due:
			w.due = true
			w.bookmark.Reset(min(w.s.db.cfg.Bookmarks, time.Second)) // etcd may stay silent: ask again
			if err := w.ask(); err != nil {                          // the stream is broken now; if it stays so, ch says it
				w.s.db.log.Debug("no progress from etcd", zap.String("resource", w.s.kind.Plural), zap.Error(err))
			}
		case <-w.done:
			return nil, errClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return w.events, nil
}

// tellInitial moves the next of the initial entries into events, and the bookmark that ends them.
func (w *watcher) tellInitial() {
	n := min(len(w.initial), chunk)
	for _, e := range w.initial[:n] {
		w.events = append(w.events, storage.Event{Type: storage.Added, Entry: e, Revision: e.Revision})
	}
	if w.initial = w.initial[n:]; len(w.initial) == 0 && !w.endTold {
		w.endTold = true
		w.events = append(w.events, storage.Event{Type: storage.Bookmark, Revision: w.stands, InitialEnd: true})
	}
}

func (w *watcher) take(ctx context.Context, resp clientv3.WatchResponse) error {
	if resp.IsProgressNotify() {
		w.stands = max(w.stands, resp.Header.Revision)
		if w.due {
			w.due = false
			w.bookmark.Reset(w.s.db.cfg.Bookmarks)
			w.events = append(w.events, storage.Event{Type: storage.Bookmark, Revision: w.stands})
		}
		return nil
	}
	for _, ev := range resp.Events {
		key, ok := w.s.key(ev.Kv.Key)
		if !ok {
			w.s.foreign(ev.Kv.Key)
			continue
		}
		told, ok, err := w.transition(ctx, key, ev)
		if err != nil {
			return err
		}
		w.stands = ev.Kv.ModRevision
		if ok {
			w.events = append(w.events, told)
		}
	}
	return nil
}

// transition is what a change of one key is for this watcher's selector.
func (w *watcher) transition(ctx context.Context, key storage.Key, ev *clientv3.Event) (told storage.Event, ok bool, err error) {
	var now, was *storage.Entry
	if ev.Type != mvccpb.Event_DELETE {
		e, err := w.s.entryOf(ctx, key, ev.Kv)
		if err != nil {
			return told, false, err
		}
		if w.o.Matches(e) {
			now = e
		}
	}
	if ev.PrevKv != nil {
		value, err := w.s.open(ctx, key, ev.PrevKv)
		if err != nil {
			return told, false, err
		}
		if e := w.s.entry(key, value, ev.Kv.ModRevision); w.o.Matches(e) {
			was = e
		}
	}
	rev := ev.Kv.ModRevision
	switch {
	case now != nil && was != nil:
		return storage.Event{Type: storage.Modified, Entry: now, Revision: rev}, true, nil
	case now != nil:
		return storage.Event{Type: storage.Added, Entry: now, Revision: rev}, true, nil
	case was != nil:
		return storage.Event{Type: storage.Deleted, Entry: was, Revision: rev}, true, nil
	}
	return told, false, nil
}
