package watchcache

import (
	"time"

	"pilothouse.dev/apiserver/storage"
)

const (
	keptSnapshots = 16
	keptFor       = 75 * time.Second
)

// snapshot is the state of a kind from one change to the next. The tree is a copy on write, so it costs what changes later.
type snapshot struct {
	tree  *tree // nobody writes it
	from  int64 // the revision at which the state became so, or some later one
	until int64 // guarded by cache.mu: the last revision at which it still was; 0 while it is the present state
	used  time.Time
}

// present returns the snapshot of now; c.mu is held for writing.
func (c *cache) present() *snapshot {
	if c.snap == nil {
		from := c.rev.Load()
		if n := c.ring.len(); n > 0 {
			from = c.ring.at(c.ring.next - 1).rev
		}
		c.snap = &snapshot{tree: c.tree.Clone(), from: from}
	}
	return c.snap
}

// asOf returns the state at revision rev, nil when memory does not have it; c.mu is held for writing.
func (c *cache) asOf(rev int64) *snapshot {
	if rev <= c.rev.Load() && rev >= c.present().from {
		return c.snap
	}
	for _, s := range c.kept {
		if s.from <= rev && rev <= s.until {
			return s
		}
	}
	return nil
}

// keep holds s for the next page of a list.
func (c *cache) keep(s *snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, k := range c.kept {
		if k == s {
			c.kept = append(c.kept[:i], c.kept[i+1:]...)
			break
		}
	}
	s.used = c.now()
	c.kept = append(c.kept, s)
	if n := len(c.kept) - keptSnapshots; n > 0 {
		c.kept = append([]*snapshot(nil), c.kept[n:]...)
	}
}

// expire drops kept snapshots that nobody asked for in a while.
func (c *cache) expire(now time.Time) {
	n := 0
	for n < len(c.kept) && now.Sub(c.kept[n].used) > keptFor {
		n++
	}
	if n > 0 {
		c.kept = append([]*snapshot(nil), c.kept[n:]...)
	}
}

// ascend calls f in order for the entries with a key that in allows (empty parts allow all), beginning after a key.
func (s *snapshot) ascend(in storage.Key, namespaced bool, after storage.Key, f func(*storage.Entry) bool) {
	one := in.Valid(namespaced)
	from := in
	if !one {
		from.Name = ""
	}
	if after.Name != "" {
		from = storage.Key{Namespace: after.Namespace, Name: after.Name + "\x00"}
	}
	s.tree.AscendGreaterOrEqual(&storage.Entry{Key: from}, func(e *storage.Entry) bool {
		if in.Namespace != "" && e.Key.Namespace != in.Namespace || one && e.Key != in {
			return false
		}
		return f(e)
	})
}

// exactly is the namespace and name that a selector demands, by its own parts or by its fields; empty where it demands none.
func exactly(s *storage.Selector) storage.Key {
	k := storage.Key{Namespace: s.Namespace, Name: s.Name}
	if s.Fields == nil {
		return k
	}
	if v, ok := s.Fields.RequiresExactMatch("metadata.name"); ok && k.Name == "" {
		k.Name = v
	}
	if v, ok := s.Fields.RequiresExactMatch("metadata.namespace"); ok && k.Namespace == "" {
		k.Namespace = v
	}
	return k
}
