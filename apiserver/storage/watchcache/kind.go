package watchcache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/etcd"
)

type tree = btree.BTreeG[*storage.Entry]

// cache is one kind. It is the Store that Caches hands out.
type cache struct {
	// Set once.
	kind      storage.Kind
	db        *etcd.DB
	truth     storage.Store // writes, and reads that memory cannot answer
	fresh     *fresh
	log       *zap.Logger
	bookmarks time.Duration
	patience  time.Duration // how long a read waits for the cache to reach a revision
	loaded    chan struct{} // closed when the first load is done
	removed   chan struct{} // closed when the kind is no longer served
	pivots    sync.Pool     // *storage.Entry to search the tree with
	now       func() time.Time

	rev     atomic.Int64 // the state is that of this revision; written under mu, never goes back within an epoch
	wrote   atomic.Int64 // the newest revision that this process wrote to this kind: the feed will come to it
	readers atomic.Int32 // consistent gets under way
	changes atomic.Int64 // goes up with every change of the state
	stale   atomic.Bool  // the state must be loaded anew and is not consistent with etcd

	sets interner // owned by the kind's loop

	mu sync.RWMutex
	// Guarded by mu; written by the kind's loop alone, but for topics, snap, kept, moved and nudged.
	tree   *tree
	stored int // bytes of the present values
	ring   ring
	epoch  uint64 // goes up when history was lost: watches of an older epoch end
	topics topics
	snap   *snapshot   // of the present state, if somebody asked for one
	kept   []*snapshot // that paged lists go on with, the latest used last
	moved  chan struct{}
	nudged bool // progress was asked for and not told yet
	feed   *etcd.Feed
	stop   context.CancelFunc // ends the feed
}

func byKey(a, b *storage.Entry) bool { return a.Key.Compare(b.Key) < 0 }

func newCache(kind storage.Kind, db *etcd.DB, f *fresh, log *zap.Logger) *cache {
	c := &cache{
		kind: kind, db: db, truth: db.Store(kind), fresh: f, log: log.With(zap.String("resource", kind.Plural), zap.String("group", kind.Group)),
		bookmarks: time.Minute, patience: 3 * time.Second,
		loaded: make(chan struct{}), removed: make(chan struct{}),
		now:  time.Now,
		sets: interner{seed: maphash.MakeSeed()},
		tree: btree.NewG(32, byKey), topics: newTopics(),
	}
	c.stale.Store(true)
	c.pivots.New = func() any { return new(storage.Entry) }
	return c
}

// run keeps the cache in step with etcd until ctx ends.
func (c *cache) run(ctx context.Context) {
	const first, most = 50 * time.Millisecond, 2 * time.Second
	wait := first
	for {
		began := time.Now()
		err := c.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		c.log.Warn("lost step with etcd", zap.Error(err))
		if time.Since(began) > 10*most {
			wait = first
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, most)
	}
}

// follow loads the state where it must and applies changes until the feed ends.
func (c *cache) follow(ctx context.Context) error {
	if c.stale.Load() {
		if err := c.load(ctx); err != nil {
			return err
		}
	}
	fctx, stop := context.WithCancel(ctx)
	defer stop()
	feed := c.db.Feed(fctx, c.kind, c.rev.Load())
	c.mu.Lock()
	c.feed, c.stop, c.nudged = feed, stop, false
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.feed, c.stop = nil, nil
		c.mu.Unlock()
	}()
	for {
		step, err := feed.Next(fctx)
		if errors.Is(err, storage.ErrCompacted) {
			c.distrust()
		}
		if err != nil {
			return err
		}
		c.apply(step)
	}
}

// distrust has the state loaded anew: history was lost.
func (c *cache) distrust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale.Store(true)
	if c.stop != nil {
		c.stop()
	}
}

// load reads the whole kind and puts it in place of the present state, keeping the entries that did not change.
func (c *cache) load(ctx context.Context) error {
	page, err := c.truth.List(ctx, storage.ListOptions{})
	if err != nil {
		return fmt.Errorf("loading: %w", err)
	}
	c.install(page)
	return nil
}

// install puts the state of page in place of the present one. Running watches end: what happened between the two is not known.
func (c *cache) install(page *storage.Page) {
	next, stored := btree.NewG(32, byKey), 0
	for _, e := range page.Entries {
		if old, ok := c.tree.Get(e); ok && old.Revision == e.Revision { // only this loop writes the tree: no lock
			e = old
		} else {
			e.Forget() // not recent
			c.sets.intern(e)
		}
		stored += len(e.Value)
		next.ReplaceOrInsert(e)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tree, c.stored = next, stored
	c.changes.Add(1)
	c.snap, c.kept = nil, nil
	c.ring.clear(page.Revision)
	c.epoch++
	for _, t := range c.topics.narrow {
		t.seqs, t.since, t.lost = nil, c.ring.next, c.ring.next
		t.release()
	}
	c.topics.all.release()
	c.advance(page.Revision)
	c.stale.Store(false)
	select {
	case <-c.loaded:
		c.log.Info("loaded anew, running watches ended", zap.Int64("revision", page.Revision), zap.Int("objects", next.Len()))
	default:
		close(c.loaded)
	}
}

// apply brings the state to the end of a step.
func (c *cache) apply(step etcd.Step) {
	var cooled []*change
	now := c.now()
	c.mu.Lock()
	before := c.rev.Load()
	for _, ch := range step.Changes {
		if ch.Entry.Revision > before {
			c.applyOne(ch, now)
		}
	}
	if len(step.Changes) == 0 {
		c.nudged = false
	} else {
		c.changes.Add(1)
		c.ring.trim(now, c.stored)
		cooled = c.ring.cool(now, nil)
		c.topics.settle(c.ring.first, now, c.wakeLater)
	}
	if step.Revision > before {
		c.advance(step.Revision)
	} else if len(step.Changes) == 0 {
		c.release()
	}
	c.check()
	c.mu.Unlock()
	for _, ch := range cooled {
		ch.forget()
	}
}

func (c *cache) applyOne(ch etcd.Change, now time.Time) {
	made := &change{rev: ch.Entry.Revision, at: now}
	if ch.Deleted {
		was, ok := c.tree.Delete(ch.Entry)
		if !ok {
			return // came and went before we looked
		}
		made.was = was
	} else {
		made.now = ch.Entry
		c.sets.intern(ch.Entry)
		made.was, _ = c.tree.ReplaceOrInsert(ch.Entry)
		c.stored += len(ch.Entry.Value)
	}
	if made.was != nil {
		c.stored -= len(made.was.Value)
	}
	if c.snap != nil {
		c.snap.until, c.snap = made.rev-1, nil
	}
	c.topics.note(c.ring.add(made), made)
}

// advance says that the state is that of rev now, and tells who waits for it.
func (c *cache) advance(rev int64) {
	c.rev.Store(rev)
	c.fresh.saw(rev)
	c.release()
}

func (c *cache) release() {
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
}

// wakeLater ends a pause that topics.settle made.
func (c *cache) wakeLater(t *topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.timer, t.woken = nil, c.now()
	t.release()
}

// sweep drops what only time makes superfluous.
func (c *cache) sweep() {
	now := c.now()
	c.mu.Lock()
	c.ring.trim(now, c.stored)
	for _, t := range c.topics.narrow {
		t.drop(c.ring.first)
	}
	cooled := c.ring.cool(now, nil)
	c.expire(now)
	c.check()
	c.mu.Unlock()
	for _, ch := range cooled {
		ch.forget()
	}
}

// nudge asks etcd to tell where the kind stands, unless somebody just did. Where that fails the feed is broken: its own error is
// logged by run, and who waits for the answer has its own bound.
func (c *cache) nudge(again bool) {
	c.mu.Lock()
	feed, skip := c.feed, c.nudged && !again
	c.nudged = true
	c.mu.Unlock()
	if feed == nil || skip {
		return
	}
	if err := feed.RequestProgress(); err != nil {
		c.log.Debug("no progress from etcd", zap.Error(err))
	}
}
