package nodelifecycle

import (
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// usual is how long a node without a Lease, or whose Lease does not say, may be silent.
const usual = 40 * time.Second

// grace is how long this node may be silent.
func (c Config) grace(node *corev1.Node, lease *coordinationv1.Lease) time.Duration {
	switch {
	case lease == nil && find(node, corev1.NodeReady) == nil:
		return c.Startup
	case c.Grace > 0:
		return c.Grace
	case lease != nil && lease.Spec.LeaseDurationSeconds != nil && *lease.Spec.LeaseDurationSeconds > 0:
		return time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
	}
	return usual
}

// watched are the conditions a silent node can no longer vouch for.
var watched = []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

// unknown says of a silent node's conditions that nobody knows them.
func unknown(s *corev1.NodeStatus, now time.Time) {
	for _, t := range watched {
		i := slices.IndexFunc(s.Conditions, func(c corev1.NodeCondition) bool { return c.Type == t })
		if i < 0 {
			s.Conditions = append(s.Conditions, corev1.NodeCondition{
				Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastTransitionTime: metav1.NewTime(now),
			})
			continue
		}
		if c := &s.Conditions[i]; c.Status != corev1.ConditionUnknown {
			c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			c.LastTransitionTime = metav1.NewTime(now)
		}
	}
}

func find(node *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == t {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

// recent is for how long a node is told of as registered: that of an older one was, before a restart.
const recent = 2 * time.Minute

// justRegistered says whether a node that is met for the first time is new altogether.
func justRegistered(node *corev1.Node, now time.Time) bool {
	return readiness(node) != corev1.ConditionTrue && now.Sub(node.CreationTimestamp.Time) < recent
}

// readiness is the Ready condition's status, empty when there is none.
func readiness(node *corev1.Node) corev1.ConditionStatus {
	if c := find(node, corev1.NodeReady); c != nil {
		return c.Status
	}
	return ""
}

// ours are the taints this controller sets and takes away, by key.
var ours = []string{
	corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure,
	corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable, corev1.TaintNodeUnschedulable,
}

// hasNoExecute says whether we have given up the node's pods.
func hasNoExecute(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable)
	})
}

// taints are the node's as they should be: what others set stays, what we set follows from its conditions. One that was there
// keeps its time, from which tolerations count. spare: nothing is evicted.
func taints(node *corev1.Node, spare bool, now time.Time) []corev1.Taint {
	type mark struct {
		key    string
		effect corev1.TaintEffect
	}
	want := map[mark]bool{}
	repel := func(key string) { want[mark{key, corev1.TaintEffectNoSchedule}] = true }
	switch readiness(node) {
	case corev1.ConditionTrue:
	case "": // just registered
		repel(corev1.TaintNodeNotReady)
	case corev1.ConditionFalse:
		repel(corev1.TaintNodeNotReady)
		want[mark{corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute}] = !spare
	default:
		repel(corev1.TaintNodeUnreachable)
		want[mark{corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute}] = !spare
	}
	for _, c := range node.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case corev1.NodeMemoryPressure:
			repel(corev1.TaintNodeMemoryPressure)
		case corev1.NodeDiskPressure:
			repel(corev1.TaintNodeDiskPressure)
		case corev1.NodePIDPressure:
			repel(corev1.TaintNodePIDPressure)
		case corev1.NodeNetworkUnavailable:
			repel(corev1.TaintNodeNetworkUnavailable)
		}
	}
	if node.Spec.Unschedulable {
		repel(corev1.TaintNodeUnschedulable)
	}
	var out []corev1.Taint
	for _, t := range node.Spec.Taints {
		m := mark{t.Key, t.Effect}
		if slices.Contains(ours, t.Key) && t.Effect != corev1.TaintEffectPreferNoSchedule && !want[m] {
			continue
		}
		delete(want, m)
		out = append(out, t)
	}
	at := metav1.NewTime(now)
	for _, key := range ours { // a fixed order
		for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
			if want[mark{key, effect}] {
				out = append(out, corev1.Taint{Key: key, Effect: effect, TimeAdded: &at})
			}
		}
	}
	return out
}
