package authn

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// cache believes for a short while what a token proved, so that its signature is not checked at each request. What does not hold is
// never kept. It knows tokens by their hash only. Safe for concurrent use.
type cache struct {
	ttl     time.Duration
	metrics *metrics
	now     func() time.Time

	mu sync.RWMutex
	// Two generations, guarded by mu: a full or old one makes place for a new one, and what was not found in that time is gone.
	young, old map[tokenHash]*kept
	born       time.Time // of the young one
}

type tokenHash [sha256.Size]byte

type kept struct {
	found *Found
	until time.Time
}

// generation is how many tokens one generation holds, some hundred bytes each.
const generation = 2048

func newCache(ttl time.Duration, m *metrics) *cache {
	return &cache{ttl: ttl, metrics: m, now: time.Now, young: map[tokenHash]*kept{}}
}

// get returns what is known of a token, or asks.
func (c *cache) get(ctx context.Context, token string, audiences []string,
	ask func(context.Context, string, []string) (*Found, error)) (*Found, error) {
	hash, now := hashOf(token, audiences), c.now()
	c.mu.RLock()
	k := c.young[hash]
	if k == nil {
		k = c.old[hash]
	}
	c.mu.RUnlock()
	if k != nil && now.Before(k.until) {
		c.metrics.cacheHit.Inc()
		defer func() { c.metrics.hitTook.Observe(c.now().Sub(now).Seconds()) }()
		if k.found.Still != nil {
			if err := k.found.Still(ctx); err != nil {
				return nil, err
			}
		}
		return k.found, nil
	}
	c.metrics.cacheMiss.Inc()
	c.metrics.fetching.Inc()
	found, err := ask(ctx, token, audiences)
	c.metrics.fetching.Dec()
	c.metrics.missTook.Observe(c.now().Sub(now).Seconds())
	if err != nil {
		c.metrics.fetchError.Inc()
		return nil, err
	}
	c.metrics.fetchOK.Inc()
	k = &kept{found, now.Add(c.ttl)}
	if !found.Until.IsZero() && found.Until.Before(k.until) {
		k.until = found.Until
	}
	c.mu.Lock()
	if len(c.young) >= generation || now.Sub(c.born) > c.ttl {
		c.old, c.young, c.born = c.young, map[tokenHash]*kept{}, now
	}
	c.young[hash] = k
	c.mu.Unlock()
	return found, nil
}

// hashOf is of the token and for whom it must be; each with its length before it, so that the end of one is never the begin of another.
func hashOf(token string, audiences []string) tokenHash {
	b := make([]byte, 0, 1536) // on the stack, as most tokens are shorter
	b = append(binary.AppendUvarint(b, uint64(len(token))), token...)
	for _, a := range audiences {
		b = append(binary.AppendUvarint(b, uint64(len(a))), a...)
	}
	return sha256.Sum256(b)
}
