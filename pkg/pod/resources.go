package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helper "k8s.io/component-helpers/resource"
)

// Requests is what a node must set aside for the pod: the sum over containers and sidecars, or the peak of the init
// containers where that is higher, pod-level requests instead where they are set, plus overhead. A running pod that is
// being resized counts with the larger of what it wants and what it has. The caller owns the result.
func Requests(p *corev1.Pod) corev1.ResourceList {
	return helper.PodRequests(p, helper.PodResourcesOptions{
		UseStatusResources: true,
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
	})
}

// SpecRequests is Requests as the spec alone says, before any status, and without overhead: what the cgroup of a pod about to
// be made is given.
func SpecRequests(p *corev1.Pod) corev1.ResourceList {
	return helper.PodRequests(p, helper.PodResourcesOptions{ExcludeOverhead: true})
}

// Limits is the most the pod may use, reckoned as Requests is; a resource for which some container has no limit is the sum
// of those that have one, so check Bounded before using it as a bound. The caller owns the result.
func Limits(p *corev1.Pod) corev1.ResourceList {
	return helper.PodLimits(p, helper.PodResourcesOptions{})
}

// Bounded says whether the pod as a whole is limited in a resource: by a pod-level limit, or by one on every container.
func Bounded(p *corev1.Pod, name corev1.ResourceName) bool {
	if p.Spec.Resources != nil {
		if q, ok := p.Spec.Resources.Limits[name]; ok && !q.IsZero() {
			return true
		}
	}
	for kind, c := range Containers(p) {
		if kind == Ephemeral {
			continue
		}
		if q, ok := c.Resources.Limits[name]; !ok || q.IsZero() {
			return false
		}
	}
	return true
}

// What a container that requests nothing is taken to use when nodes are compared (never when fit is checked): otherwise any
// number of such pods would look free and land on one node.
var (
	assumedCPU    = resource.MustParse("100m")
	assumedMemory = resource.MustParse("200Mi")
)

// LikelyRequests is Requests with 100m CPU and 200Mi memory assumed for each container that names none.
func LikelyRequests(p *corev1.Pod) corev1.ResourceList {
	return helper.PodRequests(p, helper.PodResourcesOptions{
		UseStatusResources: true,
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
		NonMissingContainerRequests: corev1.ResourceList{
			corev1.ResourceCPU: assumedCPU, corev1.ResourceMemory: assumedMemory,
		},
	})
}
