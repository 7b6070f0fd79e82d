package patch

import (
	"bytes"
	"fmt"
	"sync"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

const (
	maxCached    = 128 << 10 // bytes of FieldsV1 in one generation
	maxCachedSet = 8 << 10   // of one set; a longer one is read anew
)

// setCache keeps sets by the bytes they were read from: the objects of one controller have the same. It has two generations; what
// is asked for stays in the young one. Sets are shared and never changed.
type setCache struct {
	mu         sync.RWMutex
	young, old map[string]*fieldpath.Set
	size       int
}

// parse reads FieldsV1. Nothing at all is the empty set.
func (c *setCache) parse(raw []byte) (*fieldpath.Set, error) {
	if len(raw) == 0 {
		return &fieldpath.Set{}, nil
	}
	c.mu.RLock()
	set, young := c.young[string(raw)]
	if !young {
		set = c.old[string(raw)]
	}
	c.mu.RUnlock()
	if young {
		return set, nil
	}
	if set == nil {
		set = &fieldpath.Set{}
		if err := set.FromJSON(bytes.NewReader(raw)); err != nil {
			return nil, fmt.Errorf("reading managed fields: %w", err)
		}
		if len(raw) > maxCachedSet {
			return set, nil
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || c.size+len(raw) > maxCached {
		c.young, c.old, c.size = map[string]*fieldpath.Set{}, c.young, 0
	}
	c.young[string(raw)] = set
	c.size += len(raw)
	return set, nil
}
