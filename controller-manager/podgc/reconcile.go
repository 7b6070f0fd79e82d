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
	reason    string // why, as the metrics say it
	disrupted bool   // it was running, as far as anybody knows
}

// judge says whether a pod must be deleted because no kubelet will, or after how long to look again. node is where it stands;
// without one it has none, or its node has been gone for so long.
func judge(p *corev1.Pod, node *corev1.Node, gone time.Duration, now time.Time) (*victim, time.Duration) {
	switch going := p.DeletionTimestamp != nil; {
	case p.Spec.NodeName == "" && going:
		return &victim{pod: p, why: "it was never scheduled", reason: "unscheduled"}, 0
	case p.Spec.NodeName == "":
		return nil, 0
	case node == nil && gone >= quarantine:
		return &victim{pod: p, why: "node no longer exists", reason: "orphaned", disrupted: true}, 0
	case node == nil:
		return nil, quarantine - gone
	case going && outOfService(node):
		return &victim{pod: p, why: "node is out of service", reason: "out-of-service", disrupted: true}, 0
	}
	return nil, 0
}

// excess are the finished pods beyond the number to keep: evicted ones first, then the oldest.
func excess(pods []*corev1.Pod, keep int) (victims []victim) {
	var done []*corev1.Pod
	for _, p := range pods {
		if pod.Terminal(p) && p.DeletionTimestamp == nil {
			done = append(done, p)
		}
	}
	if len(done) <= keep {
		return nil
	}
	slices.SortFunc(done, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(boolean(b.Status.Reason == "Evicted"), boolean(a.Status.Reason == "Evicted")),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range done[:len(done)-keep] {
		victims = append(victims, victim{pod: p, why: "too many finished pods", reason: "terminated"})
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
