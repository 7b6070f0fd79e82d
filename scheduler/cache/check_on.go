//go:build race || invariants

package cache

import "fmt"

// checkLocked panics when a fresh snapshot is not what the cache holds.
func (c *Cache) checkLocked(s *Snapshot) {
	living := 0
	for name, n := range c.nodes {
		if n.Object == nil {
			continue
		}
		living++
		got := s.Node(name)
		if got == nil || got.Object != n.Object || len(got.Pods) != len(n.Pods) ||
			got.Used.MilliCPU != n.Used.MilliCPU || got.Used.Memory != n.Used.Memory {
			panic(fmt.Sprintf("cache: snapshot of node %s is stale", name))
		}
	}
	if living != len(s.Nodes) || living != len(s.byName) {
		panic(fmt.Sprintf("cache: %d nodes, %d in the snapshot, %d by name", living, len(s.Nodes), len(s.byName)))
	}
	for uid, e := range c.pods {
		n := c.nodes[e.node]
		if n == nil {
			panic(fmt.Sprintf("cache: pod %s stands on unknown node %s", uid, e.node))
		}
		found := 0
		for _, p := range n.Pods {
			if p.UID == uid {
				found++
			}
		}
		if found != 1 {
			panic(fmt.Sprintf("cache: pod %s stands %d times on node %s", uid, found, e.node))
		}
	}
}
