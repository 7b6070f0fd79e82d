package watchcache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pilothouse.dev/apiserver/storage"
)

// errRemoved ends the watches of a kind that is no longer served.
var errRemoved = fmt.Errorf("the resource is no longer served: %w", storage.ErrCompacted)

// errNotLoaded is the error of a watch on a kind that could not be loaded from etcd in time.
var errNotLoaded = errors.New("the watch cache is not in sync with etcd yet")

// Watch starts a watch. By the revision asked for (without Initial):
//
//	0, consistent        the changes acknowledged after the call
//	0, not older than    the changes after the present state of the cache
//	in the ring          the changes after it
//	before the ring      ErrCompacted
//	in the future        the changes after it, when they come
func (c *cache) Watch(ctx context.Context, o storage.WatchOptions) (storage.Watcher, error) {
	if err := c.awaitLoaded(ctx); err != nil {
		return nil, fmt.Errorf("watching %s: %w", c.kind.Plural, err)
	}
	if o.Initial || o.Read.Revision == 0 {
		if err := c.reach(ctx, o.Read); err != nil {
			return nil, fmt.Errorf("watching %s: %w", c.kind.Plural, err)
		}
	}
	w := &watcher{c: c, o: o, done: make(chan struct{})}
	if err := w.start(); err != nil {
		return nil, fmt.Errorf("watching %s: %w", c.kind.Plural, err)
	}
	if o.Bookmarks {
		w.bookmark = time.NewTimer(c.bookmarks)
	}
	return w, nil
}

// start puts the cursor where the options say and joins the topic of the watcher's interest.
func (w *watcher) start() error {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	w.stands, w.cursor = c.rev.Load(), c.ring.next
	switch {
	case w.o.Initial:
		w.initial = c.present()
	case w.o.Read.Revision > 0:
		seq, ok := c.ring.after(w.o.Read.Revision)
		if !ok {
			return storage.ErrCompacted
		}
		w.stands, w.cursor = w.o.Read.Revision, seq
	}
	w.epoch = c.epoch
	w.topic = c.topics.join(interestOf(&w.o.Selector, c.kind.Namespaced), c.ring.next)
	return nil
}

func (c *cache) awaitLoaded(ctx context.Context) error {
	if closed(c.removed) {
		return errRemoved
	}
	if c.isLoaded() {
		return nil
	}
	t := time.NewTimer(c.patience)
	defer t.Stop()
	select {
	case <-c.loaded:
		return nil
	case <-c.removed:
		return errRemoved
	case <-t.C:
		return errNotLoaded
	case <-ctx.Done():
		return ctx.Err()
	}
}
