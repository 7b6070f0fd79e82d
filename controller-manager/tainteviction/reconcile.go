package tainteviction

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/placement"
)

// deadline is when a pod must go from a node with these NoExecute taints, each bearing its time; evict is false when it may
// stay for ever. A taint that is not tolerated at all ends it at once.
func deadline(p *corev1.Pod, taints []corev1.Taint, patience time.Duration) (at time.Time, evict bool) {
	seconds := int64(patience / time.Second)
	tolerations := p.Spec.Tolerations[:len(p.Spec.Tolerations):len(p.Spec.Tolerations)]
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		// behind the pod's own, of which the first that fits counts
		tolerations = append(tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
	for i := range taints {
		left, forever, ok := placement.TolerationSeconds(taints[i:i+1], tolerations)
		if forever {
			continue
		}
		end := time.Time{}
		if ok {
			end = taints[i].TimeAdded.Add(time.Duration(left) * time.Second)
		}
		if !evict || end.Before(at) {
			at, evict = end, true
		}
	}
	return at, evict
}
