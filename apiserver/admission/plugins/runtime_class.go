package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/admission"
)

// runtimeClass gives a pod the overhead and the placement of the runtime class it names
// (https://kubernetes.io/docs/concepts/containers/runtime-class/).
type runtimeClass struct{ classes RuntimeClasses }

func (*runtimeClass) Name() string { return "RuntimeClass" }

func (p *runtimeClass) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "pods") {
		return nil
	}
	o := a.Object.(*corev1.Pod)
	class, err := p.of(ctx, a, o)
	if err != nil || class == nil {
		return err
	}
	if class.Overhead != nil {
		if o.Spec.Overhead != nil && !apiequality.Semantic.DeepEqual(o.Spec.Overhead, class.Overhead.PodFixed) {
			return forbid(a, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
		}
		o.Spec.Overhead = class.Overhead.PodFixed
	}
	if class.Scheduling == nil {
		return nil
	}
	for key, value := range class.Scheduling.NodeSelector {
		if own, ok := o.Spec.NodeSelector[key]; ok && own != value {
			return forbid(a, "conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own)
		}
		if o.Spec.NodeSelector == nil {
			o.Spec.NodeSelector = map[string]string{}
		}
		o.Spec.NodeSelector[key] = value
	}
	for _, t := range class.Scheduling.Tolerations {
		if !hasToleration(o.Spec.Tolerations, t) {
			o.Spec.Tolerations = append(o.Spec.Tolerations, t)
		}
	}
	return nil
}

func (p *runtimeClass) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "pods") {
		return nil
	}
	o := a.Object.(*corev1.Pod)
	if o.Spec.Overhead == nil { // Mutate has seen to it that this is what the class says
		return nil
	}
	class, err := p.of(ctx, a, o)
	switch {
	case err != nil:
		return err
	case class == nil || class.Overhead == nil:
		return forbid(a, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	case !apiequality.Semantic.DeepEqual(o.Spec.Overhead, class.Overhead.PodFixed):
		return forbid(a, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	}
	return nil
}

// of reads the class that a pod names, nil when it names none.
func (p *runtimeClass) of(ctx context.Context, a *admission.Attributes, o *corev1.Pod) (*nodev1.RuntimeClass, error) {
	name := o.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return nil, nil
	}
	class, err := p.classes.RuntimeClass(ctx, *name)
	if apierrors.IsNotFound(err) {
		return nil, forbid(a, "pod rejected: RuntimeClass %q not found", *name)
	}
	return class, err
}

// hasToleration says whether a list has this toleration already, whatever order or form it was written in.
func hasToleration(all []corev1.Toleration, t corev1.Toleration) bool {
	for _, have := range all {
		if apiequality.Semantic.DeepEqual(have, t) {
			return true
		}
	}
	return false
}
