package quota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	helper "k8s.io/component-helpers/resource"

	"pilothouse.dev/pkg/pod"
)

// compute are the standard resources that pods use, each with its names in quotas.
var compute = []struct{ name, plain, requests, limits corev1.ResourceName }{
	{corev1.ResourceCPU, corev1.ResourceCPU, corev1.ResourceRequestsCPU, corev1.ResourceLimitsCPU},
	{corev1.ResourceMemory, corev1.ResourceMemory, corev1.ResourceRequestsMemory, corev1.ResourceLimitsMemory},
	{corev1.ResourceEphemeralStorage, corev1.ResourceEphemeralStorage, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceLimitsEphemeralStorage},
}

// demanded are the names of which a pod must say something in each container where a quota limits them
// (https://kubernetes.io/docs/concepts/policy/resource-quotas/#requests-compared-to-limits).
var demanded = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
}

func coversPods(name corev1.ResourceName) bool {
	if name == corev1.ResourcePods {
		return true
	}
	for _, c := range compute {
		if name == c.plain || name == c.requests || name == c.limits {
			return true
		}
	}
	if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
		return true
	}
	asked, ok := strings.CutPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
	return ok && (strings.HasPrefix(asked, corev1.ResourceHugePagesPrefix) || extended(corev1.ResourceName(asked)))
}

// extended says whether a resource is none of Kubernetes' own, or stands for a class of devices.
func extended(name corev1.ResourceName) bool {
	s := string(name)
	if strings.HasPrefix(s, resourcev1.ResourceDeviceClassPrefix) {
		return true
	}
	return strings.Contains(s, "/") && !strings.Contains(s, corev1.ResourceDefaultNamespacePrefix)
}

func podUsage(o metav1.Object, now time.Time, list corev1.ResourceList) {
	p := o.(*corev1.Pod)
	if Over(p, now) {
		return
	}
	with := helper.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}
	list[corev1.ResourcePods] = one()
	computeUsage(helper.PodRequests(p, with), helper.PodLimits(p, with), list)
}

// computeUsage adds what requests and limits use of a quota.
func computeUsage(requests, limits, list corev1.ResourceList) {
	for _, c := range compute {
		if q, ok := requests[c.name]; ok {
			list[c.plain], list[c.requests] = q, q
		}
		if q, ok := limits[c.name]; ok {
			list[c.limits] = q
		}
	}
	for name, q := range requests {
		huge := strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
		if huge {
			list[name] = q
		}
		if huge || extended(name) {
			list[corev1.DefaultResourceRequestsPrefix+name] = q
		}
	}
}

// Over says whether a pod uses nothing of its node any more, or will not for long: it is finished, or its time to end has passed
// twice, as that of a pod on a lost node: its user may have another one.
func Over(p *corev1.Pod, now time.Time) bool {
	if pod.Terminal(p) {
		return true
	}
	return p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil &&
		now.After(p.DeletionTimestamp.Add(time.Duration(*p.DeletionGracePeriodSeconds)*time.Second))
}

// podChanges: resources change by resize alone, and the scope when a pod is given a deadline.
func podChanges(subresource string, o, old metav1.Object) bool {
	switch subresource {
	case "":
		return bounded(o.(*corev1.Pod)) != bounded(old.(*corev1.Pod))
	case "resize":
		return true
	}
	return false
}

// bounded says whether the pod is of the scope Terminating.
func bounded(p *corev1.Pod) bool {
	return p.Spec.ActiveDeadlineSeconds != nil && *p.Spec.ActiveDeadlineSeconds >= 0
}

func podMissing(names []corev1.ResourceName, o metav1.Object) string {
	p := o.(*corev1.Pod)
	if helper.IsPodLevelResourcesSet(p) {
		return ""
	}
	var parts []string
	for _, name := range names { // sorted
		if !slices.Contains(demanded, name) {
			continue
		}
		var lacking []string
		for kind, c := range pod.Containers(p) {
			if kind == pod.Ephemeral {
				continue
			}
			has := corev1.ResourceList{}
			computeUsage(c.Resources.Requests, c.Resources.Limits, has)
			if _, ok := has[name]; !ok {
				lacking = append(lacking, c.Name)
			}
		}
		if len(lacking) > 0 {
			slices.Sort(lacking)
			parts = append(parts, string(name)+" for: "+strings.Join(lacking, ","))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "must specify " + strings.Join(parts, "; ")
}

func podInScope(r corev1.ScopedResourceSelectorRequirement, o metav1.Object) bool {
	p := o.(*corev1.Pod)
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return bounded(p)
	case corev1.ResourceQuotaScopeNotTerminating:
		return !bounded(p)
	case corev1.ResourceQuotaScopeBestEffort:
		return pod.QoS(p) == corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return pod.QoS(p) != corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopePriorityClass:
		if p.Spec.PriorityClassName == "" {
			return selects(r)
		}
		return selects(r, p.Spec.PriorityClassName)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return looksElsewhere(p.Spec.Affinity)
	}
	return false
}

// looksElsewhere says whether an affinity to pods, or against them, names other namespaces than the pod's own.
func looksElsewhere(a *corev1.Affinity) bool {
	if a == nil {
		return false
	}
	elsewhere := func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil }
	weighted := func(t corev1.WeightedPodAffinityTerm) bool { return elsewhere(t.PodAffinityTerm) }
	if to := a.PodAffinity; to != nil && (slices.ContainsFunc(to.RequiredDuringSchedulingIgnoredDuringExecution, elsewhere) ||
		slices.ContainsFunc(to.PreferredDuringSchedulingIgnoredDuringExecution, weighted)) {
		return true
	}
	from := a.PodAntiAffinity
	return from != nil && (slices.ContainsFunc(from.RequiredDuringSchedulingIgnoredDuringExecution, elsewhere) ||
		slices.ContainsFunc(from.PreferredDuringSchedulingIgnoredDuringExecution, weighted))
}
