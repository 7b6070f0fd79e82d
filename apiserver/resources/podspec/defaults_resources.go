package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/pkg/pod"
)

// roundUp makes thousandths the finest unit there is, so that nothing is reckoned with that cannot be kept.
func roundUp(list corev1.ResourceList) {
	for name, q := range list {
		if q.RoundUp(resource.Milli) {
			continue // it was as coarse as that already
		}
		list[name] = q
	}
}

// requestLimits asks for as much as may be used, where nothing else was asked for.
func requestLimits(r *corev1.ResourceRequirements) {
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; ok {
			continue
		}
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = limit.DeepCopy()
	}
}

// defaultPodResources derives a pod's own requests: the sum of its containers' where one asks, else its own limits.
func defaultPodResources(s *corev1.PodSpec) {
	if s.Resources == nil || len(s.Resources.Limits) == 0 {
		return
	}
	containers := *s
	containers.Resources = nil
	asked := pod.SpecRequests(&corev1.Pod{Spec: containers})
	for name, limit := range s.Resources.Limits {
		if !podLevel(name) {
			continue
		}
		if _, ok := s.Resources.Requests[name]; ok {
			continue
		}
		if s.Resources.Requests == nil {
			s.Resources.Requests = corev1.ResourceList{}
		}
		if q, ok := asked[name]; ok {
			s.Resources.Requests[name] = q
		} else {
			s.Resources.Requests[name] = limit.DeepCopy()
		}
	}
}
