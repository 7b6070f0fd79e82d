package cache

import (
	"cmp"
	"slices"

	"pilothouse.dev/scheduler/nodeinfo"
)

// Snapshot is the nodes as they stood at one moment. It belongs to the one goroutine that refreshes it; others may read it
// only between two refreshes.
type Snapshot struct {
	Generation uint64
	// Nodes that have an object, by name.
	Nodes []*nodeinfo.Node

	byName map[string]*nodeinfo.Node
}

// NewSnapshot is an empty one, to be refreshed.
func NewSnapshot() *Snapshot { return &Snapshot{byName: map[string]*nodeinfo.Node{}} }

// Node finds a node by name, nil when there is none.
func (s *Snapshot) Node(name string) *nodeinfo.Node { return s.byName[name] }

// Refresh brings a snapshot up to date. A cache serves one snapshot: only nodes that changed since the last refresh are
// copied, and only when nodes came or went is the list made anew.
func (c *Cache) Refresh(s *Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.dirty) == 0 && !c.structure {
		return
	}
	c.generation++
	s.Generation = c.generation
	for name := range c.dirty {
		n := c.nodes[name]
		if n.Object == nil {
			continue
		}
		to, ok := s.byName[name]
		if !ok {
			to = &nodeinfo.Node{}
			s.byName[name] = to
		}
		n.CopyTo(to)
	}
	clear(c.dirty)
	if c.structure {
		c.relistLocked(s)
		c.structure = false
	}
	c.checkLocked(s)
}

func (c *Cache) relistLocked(s *Snapshot) {
	clear(s.Nodes)
	s.Nodes = s.Nodes[:0]
	for name, n := range s.byName {
		if living, ok := c.nodes[name]; !ok || living.Object == nil {
			delete(s.byName, name)
			continue
		}
		s.Nodes = append(s.Nodes, n)
	}
	slices.SortFunc(s.Nodes, func(a, b *nodeinfo.Node) int { return cmp.Compare(a.Name, b.Name) })
}
