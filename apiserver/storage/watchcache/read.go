package watchcache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pilothouse.dev/apiserver/storage"
)

// errBehind means that the cache is not at a revision that etcd has, and did not come to it in the time a read may wait. Lists
// and gets then ask etcd.
var errBehind = errors.New("the cache is behind etcd")

// reach waits until the cache may answer a read of this freshness: for a consistent one until it has come to what etcd's newest
// revision was after the read began.
func (c *cache) reach(ctx context.Context, r storage.Read) error {
	if r.Match != storage.Consistent {
		if r.Revision <= c.rev.Load() {
			return nil
		}
		err := c.await(ctx, r.Revision)
		if errors.Is(err, errBehind) {
			return &storage.TooNew{Asked: r.Revision, Current: c.rev.Load()}
		}
		return err
	}
	// Other kinds have moved on, so etcd will be ahead of this one: ask both things at once.
	if c.lags() {
		c.nudge(false)
	}
	rev, err := c.fresh.revision(ctx)
	if err != nil {
		return err
	}
	if c.stale.Load() {
		return errBehind
	}
	return c.await(ctx, rev)
}

// lags says that the cache will not come to etcd's revision by itself: others moved it, and nothing of ours is on its way.
func (c *cache) lags() bool {
	at := c.rev.Load()
	return at < c.fresh.seen.Load() && at >= c.wrote.Load()
}

// await waits, at most c.patience, for the cache to come to rev.
func (c *cache) await(ctx context.Context, rev int64) error {
	if c.rev.Load() >= rev {
		return nil
	}
	end := time.NewTimer(c.patience)
	defer end.Stop()
	// etcd does not answer a request for progress while the watch is catching up: ask again from time to time.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for repeat := false; ; {
		c.mu.Lock()
		if c.rev.Load() >= rev {
			c.mu.Unlock()
			return nil
		}
		if c.moved == nil {
			c.moved = make(chan struct{})
		}
		moved := c.moved
		c.mu.Unlock()
		// What this process wrote to this kind comes by itself.
		if repeat || c.wrote.Load() < rev {
			c.nudge(repeat)
		}
		repeat = false
		select {
		case <-moved:
		case <-again.C:
			repeat = true
		case <-end.C:
			return errBehind
		case <-ctx.Done():
			return fmt.Errorf("waiting for the cache of %s: %w", c.kind.Plural, ctx.Err())
		}
	}
}

func (c *cache) isLoaded() bool { return closed(c.loaded) }

// serves says whether memory may answer.
func (c *cache) serves() bool { return closed(c.loaded) && !closed(c.removed) }

// Changes is the storage.Counted of a cache.
func (c *cache) Changes() int64 {
	if !c.serves() {
		return -1
	}
	return c.changes.Load()
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func (c *cache) Get(ctx context.Context, key storage.Key, r storage.Read) (*storage.Entry, error) {
	if r.Match == storage.Exact || !c.serves() {
		return c.truth.Get(ctx, key, r)
	}
	// A reader that is alone and would have to ask for progress too gets its object from etcd in the same time as the revision.
	if r.Match == storage.Consistent {
		alone := c.readers.Add(1) == 1
		defer c.readers.Add(-1)
		if alone && c.lags() {
			return c.truth.Get(ctx, key, r)
		}
	}
	if err := c.reach(ctx, r); errors.Is(err, errBehind) {
		return c.truth.Get(ctx, key, r)
	} else if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", c.kind.Plural, key, err)
	}
	pivot := c.pivots.Get().(*storage.Entry)
	pivot.Key = key
	c.mu.RLock()
	e, ok := c.tree.Get(pivot)
	c.mu.RUnlock()
	c.pivots.Put(pivot)
	if !ok {
		return nil, &missing{c.kind.Plural, key}
	}
	return e, nil
}

// missing is ErrNotFound with its facts, formatted only if somebody looks.
type missing struct {
	plural string
	key    storage.Key
}

func (m *missing) Error() string        { return "reading " + m.plural + " " + m.key.String() + ": not found" }
func (m *missing) Is(target error) bool { return target == storage.ErrNotFound }

func (c *cache) List(ctx context.Context, o storage.ListOptions) (*storage.Page, error) {
	if !c.serves() {
		return c.truth.List(ctx, o)
	}
	var from storage.Token
	if o.Continue != "" {
		var err error
		if from, err = storage.ParseToken(o.Continue, c.kind, o.Namespace); err != nil {
			return nil, err
		}
		o.Read = storage.Read{}
		if from.Revision > 0 {
			o.Read = storage.Read{Match: storage.Exact, Revision: from.Revision}
		}
	}
	s, rev, err := c.state(ctx, o.Read)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", c.kind.Plural, err)
	}
	if s == nil {
		return c.truth.List(ctx, o)
	}
	return c.page(s, rev, from, &o), nil
}

// state finds the snapshot that a read asks for and the revision it is read at; nil when only etcd has it.
func (c *cache) state(ctx context.Context, r storage.Read) (*snapshot, int64, error) {
	if err := c.reach(ctx, r); errors.Is(err, errBehind) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Match == storage.Exact {
		if r.Revision < c.db.Compacted() {
			return nil, 0, nil // memory may still have it, but what is told does not depend on that
		}
		return c.asOf(r.Revision), r.Revision, nil
	}
	return c.present(), c.rev.Load(), nil
}

func (c *cache) page(s *snapshot, rev int64, from storage.Token, o *storage.ListOptions) *storage.Page {
	p := &storage.Page{Revision: rev}
	one := exactly(&o.Selector)
	filtered := o.Name != "" || o.Labels != nil && !o.Labels.Empty() || o.Fields != nil && !o.Fields.Empty()
	if !filtered && o.Namespace == "" {
		n := int64(s.tree.Len())
		if o.Limit > 0 {
			n = min(n, o.Limit)
		}
		p.Entries = make([]*storage.Entry, 0, n)
	}
	more, left := false, int64(0)
	s.ascend(one, c.kind.Namespaced, from.After, func(e *storage.Entry) bool {
		if o.Limit > 0 && int64(len(p.Entries)) == o.Limit {
			more = true
			left++
			return !filtered && o.Namespace != "" && from.Left == 0 // count what follows, where nothing else tells
		}
		if !filtered || o.Matches(e) {
			p.Entries = append(p.Entries, e)
		}
		return true
	})
	if !more {
		return p
	}
	t := storage.Token{Revision: rev, After: p.Entries[len(p.Entries)-1].Key}
	if !filtered {
		switch {
		case from.Left > 0:
			left = from.Left - int64(len(p.Entries))
		case o.Namespace == "" && from.After.Name == "":
			left = int64(s.tree.Len() - len(p.Entries))
		}
		if left > 0 {
			t.Left, p.Remaining = left, &left
		}
	}
	p.Continue = t.String()
	c.keep(s)
	return p
}
