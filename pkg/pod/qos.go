package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// QoS is the pod's quality of service class: the one its status tells, which never changes, or else the one its spec makes.
func QoS(p *corev1.Pod) corev1.PodQOSClass {
	if p.Status.QOSClass != "" {
		return p.Status.QOSClass
	}
	return SpecQoS(p)
}

// SpecQoS derives the class from the spec. Only CPU and memory count, and only above zero. BestEffort: nobody asks for
// anything. Guaranteed: every container (or the pod as a whole, where it has resources of its own) has both limits, and
// requests that equal them; a request left out equals its limit. Burstable: the rest.
func SpecQoS(p *corev1.Pod) corev1.PodQOSClass {
	if r := p.Spec.Resources; r != nil && (counts(r.Requests) || counts(r.Limits)) {
		if guaranteed(r.Requests, r.Limits) {
			return corev1.PodQOSGuaranteed
		}
		return corev1.PodQOSBurstable
	}
	some, every := false, true
	for kind, c := range Containers(p) {
		if kind == Ephemeral {
			continue // they have no resources
		}
		some = some || counts(c.Resources.Requests) || counts(c.Resources.Limits)
		every = every && guaranteed(c.Resources.Requests, c.Resources.Limits)
	}
	switch {
	case !some:
		return corev1.PodQOSBestEffort
	case every:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

var qosResources = [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

func counts(list corev1.ResourceList) bool {
	for _, name := range qosResources {
		if q, ok := list[name]; ok && q.Sign() > 0 {
			return true
		}
	}
	return false
}

func guaranteed(requests, limits corev1.ResourceList) bool {
	for _, name := range qosResources {
		limit, ok := limits[name]
		if !ok || limit.Sign() <= 0 {
			return false
		}
		if request, ok := requests[name]; ok && !same(request, limit) {
			return false
		}
	}
	return true
}

func same(a, b resource.Quantity) bool { return a.Cmp(b) == 0 }
