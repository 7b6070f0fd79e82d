package pods

import (
	"maps"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/pkg/pod"
)

// Sizing is how this node turns amounts that pods ask for into limits.
type Sizing struct {
	// NoQuota: CPU limits are not enforced. Period over which they are, in µs; 0 means 100 ms.
	NoQuota bool
	Period  uint64
	// PodPIDs is the most processes and threads of a pod; 0 means without limit.
	PodPIDs int64
	// V2 and HugePages are cgroups.Abilities.
	V2        bool
	HugePages []int64
	// Throttle is the part of a container's memory between request and limit from where its allocations are slowed down; 0: never. Protect keeps
	// requested memory: of guaranteed pods always, of burstable ones as long as others have some to give. Both need V2.
	Throttle float64
	Protect  bool
	// Memory is what pods may use on this node, in bytes; 0 if not known yet.
	Memory int64
}

// container are the limits of a container. One that says none itself is bound by the pod's.
func (z Sizing) container(p *corev1.Pod, c *corev1.Container) cgroups.Resources {
	res := z.limits(z.sizeOf(p, c))
	z.addHugePages(&res, z.orPods(p, c.Resources.Limits))
	if !z.V2 {
		return res
	}
	size := z.sizeOf(p, c)
	res.MemoryHigh = cgroups.MemoryHigh(size.MemoryRequest, size.MemoryLimit, z.Memory, z.Throttle, int64(os.Getpagesize()))
	z.protect(&res, p, size.MemoryRequest)
	return res
}

// pod are the limits of the pod as a whole, what running it costs (overhead) included: a hard limit only where every container has one.
func (z Sizing) pod(p *corev1.Pod) cgroups.Resources {
	size := z.podSize(p)
	res := z.limits(size)
	z.addHugePages(&res, pod.Limits(p))
	if z.PodPIDs > 0 {
		res.PIDs = z.PodPIDs
	}
	if z.V2 {
		res.NoSwap = true
		z.protect(&res, p, size.MemoryRequest)
	}
	return res
}

// limits makes CPU and memory limits of a size.
func (z Sizing) limits(s Size) cgroups.Resources {
	return cgroups.Limits(s.CPURequest, s.CPULimit, s.MemoryLimit).WithPeriod(z.Period)
}

func (z Sizing) protect(res *cgroups.Resources, p *corev1.Pod, request int64) {
	if !z.Protect || request == 0 {
		return
	}
	switch pod.QoS(p) {
	case corev1.PodQOSGuaranteed:
		res.MemoryMin = request
	case corev1.PodQOSBurstable:
		res.MemoryLow = request
	}
}

// addHugePages limits every size of page: none where nothing is said.
func (z Sizing) addHugePages(res *cgroups.Resources, limits corev1.ResourceList) {
	if len(z.HugePages) == 0 {
		return
	}
	res.HugePages = map[int64]int64{}
	for _, size := range z.HugePages {
		name := corev1.ResourceName(corev1.ResourceHugePagesPrefix + resource.NewQuantity(size, resource.BinarySI).String())
		q := limits[name]
		res.HugePages[size] = q.Value()
	}
}

// orPods are the limits of a container, and of the pod where the container has none.
func (z Sizing) orPods(p *corev1.Pod, own corev1.ResourceList) corev1.ResourceList {
	if p.Spec.Resources == nil || len(p.Spec.Resources.Limits) == 0 {
		return own
	}
	all := maps.Clone(p.Spec.Resources.Limits)
	for name, q := range own {
		if !q.IsZero() {
			all[name] = q
		}
	}
	return all
}

// sizing is the node's, with what it knows of the node now.
func (w *worker) sizing() Sizing {
	z := w.cfg.Sizing
	if n := w.parts.Node(); n != nil {
		z.Memory = n.Status.Allocatable.Memory().Value()
	}
	return z
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
// container asked for the sooner. What the pod asks for as a whole is shared out; a sidecar goes no sooner than the least of those it serves. The
// rules are those of https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior.
func oomScore(p *corev1.Pod, c *corev1.Container, capacity int64) int {
	const first, last = 1000, -997
	if p.Spec.PriorityClassName == nodeCritical && pod.Priority(p) >= pod.SystemCritical {
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
	score := func(request int64) int { return first - int(first*request/capacity) }
	share := sharedMemory(p)
	own := score(c.Resources.Requests.Memory().Value() + share)
	if sidecar := func(o corev1.Container) bool { return o.Name == c.Name && pod.Sidecar(&o) }; slices.ContainsFunc(p.Spec.InitContainers, sidecar) {
		least := p.Spec.Containers[0].Resources.Requests.Memory().Value()
		for i := range p.Spec.Containers {
			least = min(least, p.Spec.Containers[i].Resources.Requests.Memory().Value())
		}
		own = min(own, score(least+share))
	}
	return min(max(own, first+last), first-1)
}

const nodeCritical = "system-node-critical"

// sharedMemory is the part of each container in what the pod requests as a whole beyond its containers.
func sharedMemory(p *corev1.Pod) int64 {
	if p.Spec.Resources == nil {
		return 0
	}
	total, ok := p.Spec.Resources.Requests[corev1.ResourceMemory]
	if !ok {
		return 0
	}
	left, count := total.Value(), int64(len(p.Spec.Containers))
	for i := range p.Spec.Containers {
		left -= p.Spec.Containers[i].Resources.Requests.Memory().Value()
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; pod.Sidecar(c) {
			left -= c.Resources.Requests.Memory().Value()
			count++
		}
	}
	return max(left, 0) / count
}
