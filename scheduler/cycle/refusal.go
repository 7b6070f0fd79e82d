package cycle

import (
	"fmt"
	"slices"
	"strings"

	"pilothouse.dev/scheduler/framework"
)

// refusal says why a pod fits nowhere.
type refusal struct {
	nodes   int
	reasons map[string]int // reason → how many nodes gave it
	whole   string         // instead of reasons: why the pod was refused before any node was asked
	plugins []string       // who refused, sorted
}

// refuseAll is a refusal that does not depend on nodes.
func refuseAll(st *framework.Status, nodes int) *refusal {
	return &refusal{nodes: nodes, whole: st.Message(), plugins: []string{st.Plugin}}
}

// refusal sums up the answers of a trip that found no node.
func (c *chooser) refusal() *refusal {
	r := &refusal{nodes: len(c.snapshot.Nodes), reasons: map[string]int{}}
	note := func(st *framework.Status, times int) {
		for _, reason := range st.Reasons {
			r.reasons[reason] += times
		}
		if !slices.Contains(r.plugins, st.Plugin) {
			r.plugins = append(r.plugins, st.Plugin)
		}
	}
	for _, st := range c.answers {
		note(st, 1)
	}
	if _, why, ok := c.notebook.Narrowed(); ok && len(c.asked) < r.nodes {
		note(why, r.nodes-len(c.asked))
	}
	slices.Sort(r.plugins)
	return r
}

// String is the sentence that users of kube-scheduler know: `0/3 nodes are available: 1 Insufficient cpu, 2 Too many pods.`
func (r *refusal) String() string {
	switch {
	case r.nodes == 0:
		return "no nodes available to schedule pods"
	case r.whole != "":
		return fmt.Sprintf("0/%d nodes are available: %s.", r.nodes, r.whole)
	}
	counted := make([]string, 0, len(r.reasons))
	for reason, n := range r.reasons {
		counted = append(counted, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(counted)
	return fmt.Sprintf("0/%d nodes are available: %s.", r.nodes, strings.Join(counted, ", "))
}
