package watchcache

import (
	"context"
	"time"

	"pilothouse.dev/apiserver/storage"
)

// Writes go to etcd and come back by the feed; the cache only notes how far the feed will come by itself.

func (c *cache) Create(ctx context.Context, key storage.Key, value []byte, ttl time.Duration) (*storage.Entry, error) {
	return c.written(c.truth.Create(ctx, key, value, ttl))
}

func (c *cache) Update(ctx context.Context, key storage.Key, value []byte, expect int64, ttl time.Duration) (*storage.Entry, error) {
	return c.written(c.truth.Update(ctx, key, value, expect, ttl))
}

func (c *cache) Delete(ctx context.Context, key storage.Key, expect int64) (*storage.Entry, error) {
	return c.written(c.truth.Delete(ctx, key, expect))
}

// Stale is the storage.Resealed of a cache: etcd's.
func (c *cache) Stale(ctx context.Context, key storage.Key) (bool, error) {
	if r, ok := c.truth.(storage.Resealed); ok {
		return r.Stale(ctx, key)
	}
	return false, nil
}

func (c *cache) written(e *storage.Entry, err error) (*storage.Entry, error) {
	if err != nil {
		return nil, err
	}
	for {
		old := c.wrote.Load()
		if e.Revision <= old || c.wrote.CompareAndSwap(old, e.Revision) {
			break
		}
	}
	c.fresh.saw(e.Revision)
	return e, nil
}
