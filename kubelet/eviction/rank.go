package eviction

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

// candidate is a pod that may be ended, with what it uses of the resource that is short.
type candidate struct {
	pod             *corev1.Pod
	used, requested int64
	containers      []consumer
}

// consumer is a container and what it uses and asked for.
type consumer struct {
	name            string
	used, requested int64
}

// rank sorts pods by who goes first. Memory and disk: those that use more than they asked for, then lower priority, then the most above the request.
// Processes, which nobody asks for: lower priority, then the most of them (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).
func rank(resource corev1.ResourceName, cs []candidate) []candidate {
	out := slices.Clone(cs)
	above := func(c candidate) int64 { return c.used - c.requested }
	slices.SortStableFunc(out, func(a, b candidate) int {
		if x, y := above(a) > 0, above(b) > 0; x != y && resource != pids {
			if x {
				return -1
			}
			return 1
		}
		if d := cmp.Compare(pod.Priority(a.pod), pod.Priority(b.pod)); d != 0 {
			return d
		}
		return cmp.Compare(above(b), above(a))
	})
	return out
}
