package pods

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/pkg/pod"
)

// Size is what of CPU and memory a container, or a pod as a whole, asks for and may use: the amounts that may change while it runs. CPU is in
// thousandths, memory in bytes; a limit of 0 is none.
type Size struct {
	CPURequest, CPULimit, MemoryRequest, MemoryLimit int64
}

// sizeOf is the size of a container. One without limits of its own is bound by the pod's.
func (z Sizing) sizeOf(p *corev1.Pod, c *corev1.Container) Size {
	limits := z.orPods(p, c.Resources.Limits)
	return z.size(c.Resources.Requests, limits)
}

// podSize is the size of the pod as a whole, overhead included.
func (z Sizing) podSize(p *corev1.Pod) Size {
	requests, limits := pod.SpecRequests(p), pod.Limits(p)
	for name, more := range p.Spec.Overhead {
		q := requests[name]
		q.Add(more)
		requests[name] = q
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if !pod.Bounded(p, name) {
			delete(limits, name)
		}
	}
	return z.size(requests, limits)
}

func (z Sizing) size(requests, limits corev1.ResourceList) Size {
	s := Size{
		CPURequest: requests.Cpu().MilliValue(), CPULimit: limits.Cpu().MilliValue(),
		MemoryRequest: requests.Memory().Value(), MemoryLimit: limits.Memory().Value(),
	}
	if s.CPURequest == 0 {
		s.CPURequest = s.CPULimit
	}
	if z.NoQuota {
		s.CPULimit = 0
	}
	return s
}

// larger has the more of both in everything.
func (s Size) larger(o Size) Size {
	limit := func(a, b int64) int64 {
		if a == 0 || b == 0 {
			return 0
		}
		return max(a, b)
	}
	return Size{
		CPURequest: max(s.CPURequest, o.CPURequest), MemoryRequest: max(s.MemoryRequest, o.MemoryRequest),
		CPULimit: limit(s.CPULimit, o.CPULimit), MemoryLimit: limit(s.MemoryLimit, o.MemoryLimit),
	}
}

// read is what a group has of a size that it was told.
func (s Size) read(has cgroups.Actual) Size {
	return Size{CPURequest: has.CPURequest(s.CPURequest), CPULimit: has.CPULimit(s.CPULimit), MemoryRequest: s.MemoryRequest, MemoryLimit: has.MemoryLimit(s.MemoryLimit)}
}

// String is the form in which a size is a label; parseSize reads it.
func (s Size) String() string {
	return fmt.Sprintf("%d/%d/%d/%d", s.CPURequest, s.CPULimit, s.MemoryRequest, s.MemoryLimit)
}

func parseSize(label string) (Size, bool) {
	var s Size
	n, err := fmt.Sscanf(strings.ReplaceAll(label, "/", " "), "%d %d %d %d", &s.CPURequest, &s.CPULimit, &s.MemoryRequest, &s.MemoryLimit)
	return s, err == nil && n == 4
}

// mustRestart says whether the container must be started again to get from one size to another, by its resize policy. A memory request limits
// nothing, so it never needs that.
func mustRestart(c *corev1.Container, from, to Size) bool {
	for _, policy := range c.ResizePolicy {
		if policy.RestartPolicy != corev1.RestartContainer {
			continue
		}
		switch policy.ResourceName {
		case corev1.ResourceCPU:
			if from.CPURequest != to.CPURequest || from.CPULimit != to.CPULimit {
				return true
			}
		case corev1.ResourceMemory:
			if from.MemoryLimit != to.MemoryLimit {
				return true
			}
		}
	}
	return false
}
