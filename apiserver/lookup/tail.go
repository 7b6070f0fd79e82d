package lookup

import (
	"context"
	"errors"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/storage"
)

// Tail is what has changed of one kind since it was asked last: for rooms that keep something made of many objects, of which few
// change at a time (a View makes everything anew). It has no goroutine: who keeps something pulls before he answers, so that the
// answer is as fresh as the watch cache, and often enough that the cache still has what changed (75 s). See authz.Feed.
type Tail struct {
	look   *Lookup
	gvr    schema.GroupVersionResource
	sel    storage.Selector
	polled context.Context // over, so that a watch answers with what there is

	seen atomic.Int64 // Changes before the last pull; -1: never pulled to its end

	watch storage.Watcher // owned by Pull; nil: begin anew
}

// Tail makes the tail of the objects at gvr that sel selects. The kind may be registered later; until then there are none.
func (l *Lookup) Tail(gvr schema.GroupVersionResource, sel storage.Selector) *Tail {
	polled, over := context.WithCancel(context.Background())
	over()
	t := &Tail{look: l, gvr: gvr, sel: sel, polled: polled}
	t.seen.Store(-1)
	return t
}

// Behind says whether there may be something to pull. Safe for concurrent use.
func (t *Tail) Behind() bool {
	r := t.look.reg.Find(t.gvr)
	if r == nil {
		return t.seen.Load() != 0
	}
	changes := changesOf(r.Store)
	return changes < 0 || changes != t.seen.Load()
}

// Newest waits until Pull would tell everything that was acknowledged before the call: one round trip to etcd, shared with others who
// ask at the time. For the rare question whose answer must not be a moment old.
func (t *Tail) Newest(ctx context.Context) error {
	r := t.look.reg.Find(t.gvr)
	if r == nil {
		return nil
	}
	w, err := r.Store.Watch(ctx, storage.WatchOptions{Selector: storage.Selector{Namespace: "-", Name: "-"}}) // of nothing
	if err != nil {
		return err // names the kind
	}
	w.Close()
	return nil
}

// Pull tells every change up to now, without waiting for any; ctx bounds the wait for a cache that is not loaded yet. reset comes before the present state, which is told first and whenever
// history was lost. With an error, what was told holds and the next pull goes on, from the beginning where it must.
func (t *Tail) Pull(ctx context.Context, reset func(), each func(storage.Event)) error {
	r := t.look.reg.Find(t.gvr)
	if r == nil {
		t.end()
		reset()
		t.seen.Store(0)
		return nil
	}
	changes := changesOf(r.Store) // before looking, so that what changes meanwhile is looked at again
	for {
		if t.watch == nil {
			t.seen.Store(-1)
			w, err := r.Store.Watch(ctx, storage.WatchOptions{Selector: t.sel, Initial: true, Read: storage.Cached})
			if err != nil {
				return err // names the kind
			}
			t.watch = w
			reset()
		}
		events, err := t.watch.Next(t.polled)
		switch {
		case errors.Is(err, context.Canceled): // told all there is
			t.seen.Store(changes)
			return nil
		case errors.Is(err, storage.ErrCompacted): // history was lost
			t.end()
			continue
		case err != nil:
			t.end()
			return err
		}
		for _, e := range events {
			if e.Type != storage.Bookmark {
				each(e)
			}
		}
	}
}

func (t *Tail) end() {
	if t.watch != nil {
		t.watch.Close()
		t.watch = nil
	}
	t.seen.Store(-1)
}
