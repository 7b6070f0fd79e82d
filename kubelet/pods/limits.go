package pods

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/pkg/pod"
)

func limits(c *corev1.Container) cgroups.Resources {
	return cgroups.Limits(c.Resources.Requests.Cpu().MilliValue(), c.Resources.Limits.Cpu().MilliValue(), c.Resources.Limits.Memory().Value())
}

// memory of the node in bytes, 0 if not known.
func (w *worker) memory() int64 {
	n := w.parts.Node()
	if n == nil {
		return 0
	}
	return n.Status.Capacity.Memory().Value()
}

// oomScore says whom the kernel kills first when memory runs out: pods without requests first, guaranteed ones last, and in between the less a
// container asked for the sooner.
func oomScore(p *corev1.Pod, c *corev1.Container, capacity int64) int {
	const first, last = 1000, -997
	if pod.Priority(p) >= pod.SystemCritical {
		return last
	}
	switch pod.QoS(p) {
	case corev1.PodQOSGuaranteed:
		return last
	case corev1.PodQOSBestEffort:
		return first
	}
	if capacity <= 0 {
		return first - 1
	}
	score := first - int(first*c.Resources.Requests.Memory().Value()/capacity)
	return min(max(score, first+last), first-1)
}
