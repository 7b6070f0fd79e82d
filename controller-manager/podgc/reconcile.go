package podgc

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

// victim is a pod to delete, and why.
type victim struct {
	pod       *corev1.Pod
	why       string
	disrupted bool // it was running, as far as anybody knows
}

// decide picks the pods that no kubelet will delete. absent are the nodes that are not there, with since when.
func decide(pods []*corev1.Pod, nodes map[string]*corev1.Node, absent map[string]time.Time, keep int, now time.Time) (victims []victim) {
	var finished []*corev1.Pod
	for _, p := range pods {
		since, orphan := absent[p.Spec.NodeName]
		node := nodes[p.Spec.NodeName]
		switch {
		case p.Spec.NodeName == "" && p.DeletionTimestamp != nil:
			victims = append(victims, victim{pod: p, why: "it was never scheduled"})
		case orphan && now.Sub(since) >= quarantine:
			victims = append(victims, victim{pod: p, why: "node no longer exists", disrupted: true})
		case node != nil && p.DeletionTimestamp != nil && outOfService(node):
			victims = append(victims, victim{pod: p, why: "node is out of service", disrupted: true})
		case pod.Terminal(p) && p.DeletionTimestamp == nil:
			finished = append(finished, p)
		}
	}
	if keep > 0 && len(finished) > keep {
		slices.SortFunc(finished, func(a, b *corev1.Pod) int { // evicted ones first, then the oldest
			return cmp.Or(cmp.Compare(boolean(b.Status.Reason == "Evicted"), boolean(a.Status.Reason == "Evicted")),
				a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		for _, p := range finished[:len(finished)-keep] {
			victims = append(victims, victim{pod: p, why: "too many finished pods"})
		}
	}
	return victims
}

// outOfService: people say that the node is off, and it does not say otherwise.
func outOfService(n *corev1.Node) bool {
	if !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService }) {
		return false
	}
	return !slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}
