package plugins

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/pod"
)

// alwaysPullImages has every image pulled anew, so that who may not pull an image cannot run it from a node that has it
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#alwayspullimages).
type alwaysPullImages struct{}

func (alwaysPullImages) Name() string { return "AlwaysPullImages" }

func (alwaysPullImages) Mutate(_ context.Context, a *admission.Attributes) error {
	o := pulls(a)
	if o == nil {
		return nil
	}
	for i := range o.Spec.InitContainers {
		o.Spec.InitContainers[i].ImagePullPolicy = corev1.PullAlways
	}
	for i := range o.Spec.Containers {
		o.Spec.Containers[i].ImagePullPolicy = corev1.PullAlways
	}
	for i := range o.Spec.EphemeralContainers {
		o.Spec.EphemeralContainers[i].ImagePullPolicy = corev1.PullAlways
	}
	for i := range o.Spec.Volumes {
		if image := o.Spec.Volumes[i].Image; image != nil {
			image.PullPolicy = corev1.PullAlways
		}
	}
	return nil
}

func (alwaysPullImages) Validate(_ context.Context, a *admission.Attributes) error {
	o := pulls(a)
	if o == nil {
		return nil
	}
	var errs field.ErrorList
	check := func(at *field.Path, p corev1.PullPolicy) {
		if p != corev1.PullAlways {
			errs = append(errs, field.NotSupported(at, p, []corev1.PullPolicy{corev1.PullAlways}))
		}
	}
	spec := field.NewPath("spec")
	list, i := "", 0
	for kind, c := range pod.Containers(o) {
		if name := listOf(kind); name != list {
			list, i = name, 0
		}
		check(spec.Child(list).Index(i).Child("imagePullPolicy"), c.ImagePullPolicy)
		i++
	}
	for i, v := range o.Spec.Volumes {
		if v.Image != nil {
			check(spec.Child("volumes").Index(i).Child("image", "pullPolicy"), v.Image.PullPolicy)
		}
	}
	if len(errs) > 0 {
		return forbid(a, "%w", errs.ToAggregate())
	}
	return nil
}

// pulls is the pod of a write that brings images, nil for any other: pods that are there already can still be changed.
func pulls(a *admission.Attributes) *corev1.Pod {
	if a.Resource.GVK.Group != "" || a.Resource.Plural != "pods" || a.Subresource != "" && a.Subresource != "ephemeralcontainers" {
		return nil
	}
	o, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	if a.Operation == admission.Update {
		if old, ok := a.Old.(*corev1.Pod); ok && !brings(o, old) {
			return nil
		}
	}
	return o
}

// brings says whether a pod has an image that it did not have before.
func brings(o, old *corev1.Pod) bool {
	had := map[string]bool{}
	for _, c := range pod.Containers(old) {
		had[c.Image] = true
	}
	for _, v := range old.Spec.Volumes {
		if v.Image != nil {
			had[v.Image.Reference] = true
		}
	}
	for _, c := range pod.Containers(o) {
		if !had[c.Image] {
			return true
		}
	}
	for _, v := range o.Spec.Volumes {
		if v.Image != nil && !had[v.Image.Reference] {
			return true
		}
	}
	return false
}

// listOf is the name of a list of containers in a pod's spec.
func listOf(k pod.Kind) string {
	switch k {
	case pod.Init:
		return "initContainers"
	case pod.Ephemeral:
		return "ephemeralContainers"
	case pod.Regular:
		return "containers"
	}
	panic(fmt.Sprintf("no list of containers %d", k))
}
