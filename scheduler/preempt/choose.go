// Package preempt decides which pods must go so that a more important one fits, and evicts them. The cycle asks when a pod
// fits nowhere; the plan is pure over the snapshot, the evictions are requests to the API.
//
// Only pods of lower priority are victims, and only on one node. Of each node as few as possible are taken, the least
// important first; of all nodes the one whose victims matter least. The pod is then nominated to that node: until it stands
// there or gives up, pods of lower priority do not get the room that is made for it.
package preempt

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/scheduler/nodeinfo"
)

// Plan is a node and those who must leave it.
type Plan struct {
	Node    string
	Victims []*nodeinfo.Pod // most important first
}

// Fits says whether the pod that is to be placed would fit on a node that was changed for trial.
type Fits func(n *nodeinfo.Node) bool

// Waits says whether a pod is already waiting for victims to leave the node that it was nominated to: then no more are
// taken for it.
func Waits(p *nodeinfo.Pod, nominated *nodeinfo.Node) bool {
	if nominated == nil {
		return false
	}
	return slices.ContainsFunc(nominated.Pods, func(o *nodeinfo.Pod) bool {
		return o.Priority < p.Priority && pod.Terminating(o.Pod)
	})
}

// Choose makes the plan that costs least, nil when evicting does not help on any of the nodes, or the pod does not want it.
// Nodes on which eviction cannot help must be left out by the caller.
func Choose(p *nodeinfo.Pod, nodes []*nodeinfo.Node, fits Fits) *Plan {
	if p.Spec.PreemptionPolicy != nil && *p.Spec.PreemptionPolicy == corev1.PreemptNever {
		return nil
	}
	var best *Plan
	for _, n := range nodes {
		if plan := on(n, p, fits); plan != nil && (best == nil || compare(plan, best) < 0) {
			best = plan
		}
	}
	return best
}

// on makes the plan for one node: all lesser pods leave, then come back one by one, the most important first, while the pod
// still fits.
func on(n *nodeinfo.Node, p *nodeinfo.Pod, fits Fits) *Plan {
	var lesser []*nodeinfo.Pod
	for _, o := range n.Pods {
		if o.Priority < p.Priority && !pod.Mirror(o.Pod) {
			lesser = append(lesser, o)
		}
	}
	if len(lesser) == 0 {
		return nil
	}
	trial := n.Clone()
	for _, o := range lesser {
		trial.Remove(o.UID)
	}
	if !fits(trial) {
		return nil
	}
	slices.SortFunc(lesser, importance)
	plan := &Plan{Node: n.Name}
	for _, o := range lesser {
		trial.Add(o)
		if !fits(trial) {
			trial.Remove(o.UID)
			plan.Victims = append(plan.Victims, o)
		}
	}
	if len(plan.Victims) == 0 {
		return nil // it fits without: the refusal had another cause, which has passed
	}
	return plan
}

// importance orders pods, the more important first: by priority, then by how long they have run.
func importance(a, b *nodeinfo.Pod) int {
	if c := cmp.Compare(b.Priority, a.Priority); c != 0 {
		return c
	}
	return started(a).Compare(started(b))
}

// started is when a pod began; one that has not is the youngest of all.
func started(p *nodeinfo.Pod) time.Time {
	if p.Status.StartTime == nil {
		return time.Unix(1<<40, 0)
	}
	return p.Status.StartTime.Time
}

// compare says which plan costs less: the one whose most important victim matters less, then the smaller sum of
// priorities, then fewer victims, then the one whose most important victims are younger.
func compare(a, b *Plan) int {
	sum := func(p *Plan) (total int64) {
		for _, v := range p.Victims {
			total += int64(v.Priority) + 1<<31 // so that one more victim is never cheaper
		}
		return total
	}
	return cmp.Or(
		cmp.Compare(a.Victims[0].Priority, b.Victims[0].Priority),
		cmp.Compare(sum(a), sum(b)),
		cmp.Compare(len(a.Victims), len(b.Victims)),
		started(b.Victims[0]).Compare(started(a.Victims[0])),
	)
}
