package watchcache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/etcd"
)

const (
	sweepEvery    = 2 * time.Second
	progressEvery = 30 * time.Second // so that a quiet kind's revision stays ahead of compaction
)

// Caches is a Backend that keeps every kind it knows in memory.
type Caches struct {
	db    *etcd.DB
	log   *zap.Logger
	fresh *fresh

	mu    sync.Mutex
	kinds map[schema.GroupResource]*running // guarded by mu
	start func(*running)                    // guarded by mu; set while Run works
}

// running is a cache and how to stop it.
type running struct {
	*cache
	stop context.CancelFunc // nil until started
	done chan struct{}
}

var _ storage.Backend = (*Caches)(nil)

// New makes caches over db; they begin to fill in Run.
func New(db *etcd.DB, log *zap.Logger) *Caches {
	c := &Caches{db: db, log: log.Named("watchcache"), kinds: map[schema.GroupResource]*running{}}
	c.fresh = newFresh(db.Revision, c.distrust)
	return c
}

// Store returns the kind's store, adding the kind if it is not there yet. Until the kind is loaded, reads go to etcd and
// watches wait. A kind whose Attrs changed is Removed first.
func (c *Caches) Store(kind storage.Kind) storage.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	gr := schema.GroupResource{Group: kind.Group, Resource: kind.Plural}
	k := c.kinds[gr]
	if k == nil {
		k = &running{cache: newCache(kind, c.db, c.fresh, c.log), done: make(chan struct{})}
		c.kinds[gr] = k
		if c.start != nil {
			c.start(k)
		}
	}
	return k.cache
}

// Add is Store for those who want the cache to begin to fill.
func (c *Caches) Add(kind storage.Kind) { c.Store(kind) }

// Remove stops caching a kind: its watches end, and its store answers from etcd if somebody still holds it.
func (c *Caches) Remove(kind storage.Kind) {
	gr := schema.GroupResource{Group: kind.Group, Resource: kind.Plural}
	c.mu.Lock()
	k := c.kinds[gr]
	delete(c.kinds, gr)
	c.mu.Unlock()
	if k == nil {
		return
	}
	close(k.removed)
	if k.stop != nil {
		k.stop()
		<-k.done
	}
}

// Run keeps all caches in step with etcd until ctx ends.
func (c *Caches) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.fresh.run(ctx) })
	c.mu.Lock()
	c.start = func(k *running) {
		kctx, stop := context.WithCancel(ctx)
		k.stop = stop
		wg.Go(func() {
			defer close(k.done)
			defer stop()
			k.run(kctx)
		})
	}
	for _, k := range c.kinds {
		c.start(k)
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.start = nil
		c.mu.Unlock()
	}()
	return c.tend(ctx)
}

// tend does what has to be done from time to time.
func (c *Caches) tend(ctx context.Context) error {
	sweep, progress := time.NewTicker(sweepEvery), time.NewTicker(progressEvery)
	defer sweep.Stop()
	defer progress.Stop()
	for {
		select {
		case <-sweep.C:
			for _, k := range c.all() {
				k.sweep()
			}
		case <-progress.C:
			c.tellProgress(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// tellProgress has every kind's revision brought up to date, and finds out whether etcd is still the same.
func (c *Caches) tellProgress(ctx context.Context) {
	if _, err := c.fresh.revision(ctx); err != nil {
		if ctx.Err() == nil {
			c.log.Warn("etcd does not answer", zap.Error(err))
		}
		return
	}
	for _, k := range c.all() {
		k.nudge(true)
	}
}

// distrust has every kind loaded anew, because etcd's data was replaced by an older state.
func (c *Caches) distrust() {
	c.log.Error("etcd's revision went back, its data was replaced: loading everything anew")
	for _, k := range c.all() {
		k.distrust()
	}
}

// Ready says which kinds are not loaded yet.
func (c *Caches) Ready() error {
	var not []string
	for _, k := range c.all() {
		if !k.isLoaded() {
			not = append(not, schema.GroupResource{Group: k.kind.Group, Resource: k.kind.Plural}.String())
		}
	}
	if len(not) == 0 {
		return nil
	}
	slices.Sort(not)
	return fmt.Errorf("not in sync with etcd yet: %w", errors.New(strings.Join(not, ", ")))
}

func (c *Caches) all() []*running {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*running, 0, len(c.kinds))
	for _, k := range c.kinds {
		out = append(out, k)
	}
	return out
}
