//go:build race || invariants

package nodeinfo

import (
	"fmt"
	"maps"

	"pilothouse.dev/pkg/placement"
)

// check panics when the sums are not those of the pods.
func (n *Node) check() {
	fresh := Node{Name: n.Name}
	for _, p := range n.Pods {
		fresh.Used.Add(p.Want)
		fresh.Likely.Add(p.Likely)
		fresh.count(p.Owner, 1)
	}
	if !equal(fresh.Used, n.Used) || !equal(fresh.Likely, n.Likely) {
		panic(fmt.Sprintf("node %s: used %+v likely %+v, its pods sum up to %+v and %+v", n.Name, n.Used, n.Likely, fresh.Used, fresh.Likely))
	}
	if len(fresh.owners) != len(n.owners) {
		panic(fmt.Sprintf("node %s: %d owners counted, its pods have %d", n.Name, len(n.owners), len(fresh.owners)))
	}
	for _, c := range fresh.owners {
		if n.Of(c.owner) != c.pods {
			panic(fmt.Sprintf("node %s: owner %v counted %d, has %d pods", n.Name, c.owner.Value(), n.Of(c.owner), c.pods))
		}
	}
}

func equal(a, b placement.Resources) bool {
	return a.MilliCPU == b.MilliCPU && a.Memory == b.Memory && a.EphemeralStorage == b.EphemeralStorage &&
		a.Pods == b.Pods && maps.Equal(a.Others, b.Others)
}
