package podset

import (
	"cmp"
	"math/bits"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

// DeletionCost is the annotation by which users say which pods they would rather lose: the cheaper go first.
const DeletionCost = "controller.kubernetes.io/pod-deletion-cost"

// Rank sorts pods by who is given up first: not assigned to a node, then pending before unknown before running, then not
// ready, then cheaper, then with more related pods on the same node, then ready for a shorter time, then with more restarts,
// then newer. Times are compared by their order of magnitude, so that among pods of about one age chance decides (the UID) and
// not always the newest zone loses. related counts ready siblings on a node, those of other generations among them.
func Rank(pods []*corev1.Pod, related map[string]int, now time.Time) {
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(
			compareBool(pod.Assigned(a), pod.Assigned(b)),
			cmp.Compare(phaseRank(a), phaseRank(b)),
			compareBool(pod.Ready(a), pod.Ready(b)),
			cmp.Compare(cost(a), cost(b)),
			cmp.Compare(related[b.Spec.NodeName], related[a.Spec.NodeName]),
			cmp.Compare(magnitude(now.Sub(readySince(a))), magnitude(now.Sub(readySince(b)))),
			cmp.Compare(restarts(b), restarts(a)),
			cmp.Compare(magnitude(now.Sub(a.CreationTimestamp.Time)), magnitude(now.Sub(b.CreationTimestamp.Time))),
			cmp.Compare(a.UID, b.UID),
		)
	})
}

// Spread counts ready pods by node: what Rank calls related.
func Spread(pods []*corev1.Pod) map[string]int {
	m := map[string]int{}
	for _, p := range pods {
		if p.Spec.NodeName != "" && pod.Active(p) && pod.Ready(p) {
			m[p.Spec.NodeName]++
		}
	}
	return m
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func phaseRank(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodPending, "":
		return 0
	case corev1.PodUnknown:
		return 1
	}
	return 2
}

// cost is 0 when the annotation is missing or no number: the API server refuses what is none.
func cost(p *corev1.Pod) int32 {
	n, err := strconv.ParseInt(p.Annotations[DeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

func readySince(p *corev1.Pod) time.Time {
	if c := pod.Condition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

func restarts(p *corev1.Pod) (n int32) {
	for i := range p.Status.ContainerStatuses {
		n = max(n, p.Status.ContainerStatuses[i].RestartCount)
	}
	return n
}

// magnitude is the power of two of an age in seconds.
func magnitude(age time.Duration) int { return bits.Len64(uint64(max(age, 0) / time.Second)) }
