package podspec

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/pkg/pod"
)

// KeepForResize gives a pod everything of the old one but what its containers, and it as a whole, ask for and may use: what
// pods/resize changes. Containers that are added, gone or elsewhere stay so, for ValidateResize to refuse.
func KeepForResize(p, old *corev1.Pod) {
	asked := p.Spec.DeepCopy()
	keep(p, old)
	p.Spec.Resources = asked.Resources
	p.Spec.Containers = resized(asked.Containers, old.Spec.Containers)
	p.Spec.InitContainers = resized(asked.InitContainers, old.Spec.InitContainers)
}

func resized(asked, old []corev1.Container) []corev1.Container {
	was := make(map[string]*corev1.Container, len(old))
	for i := range old {
		was[old[i].Name] = &old[i]
	}
	for i := range asked {
		if c := was[asked[i].Name]; c != nil {
			resources, policy := asked[i].Resources, asked[i].ResizePolicy
			c.DeepCopyInto(&asked[i])
			asked[i].Resources, asked[i].ResizePolicy = resources, policy
		}
	}
	return asked
}

// ValidateResize checks a change by pods/resize: amounts of cpu and memory, of containers or of the pod, that leave its class
// as it is. See https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/.
func ValidateResize(p, old *corev1.Pod) field.ErrorList {
	if pod.Mirror(old) {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	errs := ValidatePod(p)
	spec := field.NewPath("spec")
	class := old.Status.QOSClass
	if class == "" {
		class = pod.SpecQoS(old)
	}
	if pod.SpecQoS(p) != class {
		errs = append(errs, field.Invalid(spec, p.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	if !sizesKnown(old) {
		errs = append(errs, field.Forbidden(spec, "Pod running on node without support for resize"))
	}
	errs = append(errs, validatePodResize(p.Spec.Resources, old.Spec.Resources, spec)...)
	order := validateSameContainers(p.Spec.InitContainers, old.Spec.InitContainers, spec, "initContainers")
	order = append(order, validateSameContainers(p.Spec.Containers, old.Spec.Containers, spec, "containers")...)
	if len(order) > 0 {
		return append(errs, order...)
	}
	for i := range p.Spec.InitContainers {
		c, was, at := &p.Spec.InitContainers[i], &old.Spec.InitContainers[i], spec.Child("initContainers").Index(i)
		errs = append(errs, validateNotRemoved(&c.Resources, &was.Resources, "resource", at.Child("resources"))...)
		if !sameButSize(c, was) {
			errs = append(errs, field.Forbidden(at, "only cpu and memory resources for init or sidecar containers are mutable"))
		}
		if !pod.Sidecar(c) && !apiequality.Semantic.DeepEqual(c, was) && restartsToResize(c) {
			errs = append(errs, field.Forbidden(at, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"))
		}
	}
	for i := range p.Spec.Containers {
		c, was := &p.Spec.Containers[i], &old.Spec.Containers[i]
		errs = append(errs, validateNotRemoved(&c.Resources, &was.Resources, "resource", spec.Child("containers").Index(i).Child("resources"))...)
		if !sameButSize(c, was) {
			errs = append(errs, field.Forbidden(spec, "only cpu and memory resources are mutable"))
		}
	}
	return errs
}

// sizesKnown says whether the node tells what its containers have, without which it cannot change that.
func sizesKnown(p *corev1.Pod) bool {
	for i := range p.Status.ContainerStatuses {
		if c := &p.Status.ContainerStatuses[i]; c.State.Running != nil {
			return c.Resources != nil
		}
	}
	return true
}

func validatePodResize(r, old *corev1.ResourceRequirements, spec *field.Path) field.ErrorList {
	path := spec.Child("resources")
	switch {
	case r == nil && old == nil:
		return nil
	case r == nil:
		return field.ErrorList{field.Forbidden(path, "pod-level resources cannot be removed")}
	case old == nil:
		old = &corev1.ResourceRequirements{}
	}
	errs := validateNotRemoved(r, old, "pod-level resource", path)
	if !apiequality.Semantic.DeepEqual(withoutSize(*r, *old), *old) {
		errs = append(errs, field.Forbidden(spec, "only cpu and memory resources are mutable at pod-level"))
	}
	return errs
}

func validateNotRemoved(r, old *corev1.ResourceRequirements, what string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := func(list, was corev1.ResourceList, name string) {
		for key := range was {
			if _, ok := list[key]; !ok {
				errs = append(errs, field.Forbidden(path.Child(name), what+" "+name+" cannot be removed"))
				return
			}
		}
	}
	check(r.Requests, old.Requests, "requests")
	check(r.Limits, old.Limits, "limits")
	return errs
}

func validateSameContainers(all, old []corev1.Container, spec *field.Path, list string) field.ErrorList {
	path := spec.Child(list)
	if len(all) != len(old) {
		return field.ErrorList{field.Forbidden(path, list+" may not be added or removed on resize")}
	}
	var errs field.ErrorList
	for i := range all {
		if all[i].Name != old[i].Name {
			errs = append(errs, field.Forbidden(path.Index(i).Child("name"), list+" may not be renamed or reordered on resize"))
		}
	}
	return errs
}

func restartsToResize(c *corev1.Container) bool {
	for _, p := range c.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer {
			return true
		}
	}
	return false
}

// sameButSize says whether two containers differ in amounts of cpu and memory only.
func sameButSize(c, old *corev1.Container) bool {
	rest := *c
	rest.Resources = withoutSize(c.Resources, old.Resources)
	return apiequality.Semantic.DeepEqual(&rest, old)
}

// withoutSize is r with the cpu and memory of old.
func withoutSize(r, old corev1.ResourceRequirements) corev1.ResourceRequirements {
	r.Requests, r.Limits = sizeOf(r.Requests, old.Requests), sizeOf(r.Limits, old.Limits)
	return r
}

func sizeOf(list, old corev1.ResourceList) corev1.ResourceList {
	out := maps.Clone(list)
	if out == nil {
		out = corev1.ResourceList{}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		delete(out, name)
		if q, ok := old[name]; ok {
			out[name] = q
		}
	}
	return out
}
