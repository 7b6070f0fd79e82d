package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/pod"
)

// priority turns the name of a pod's priority class into a number, and lets there be one class only that pods get which name none
// (https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/).
type priority struct{ classes PriorityClasses }

func (*priority) Name() string { return "Priority" }

// builtin are classes that every cluster has, from its first moment.
var builtin = map[string]int32{
	"system-cluster-critical": pod.SystemCritical,
	"system-node-critical":    pod.SystemCritical + 1000,
}

func (p *priority) Mutate(ctx context.Context, a *admission.Attributes) error {
	if !a.Is("", "pods") {
		return nil
	}
	switch a.Operation {
	case admission.Create:
		return p.prioritize(ctx, a, a.Object.(*corev1.Pod))
	case admission.Update: // one who left out what we had filled in did not mean to change it
		p, old := a.Object.(*corev1.Pod), a.Old.(*corev1.Pod)
		if p.Spec.Priority == nil {
			p.Spec.Priority = old.Spec.Priority
		}
		if p.Spec.PreemptionPolicy == nil {
			p.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
		}
	}
	return nil
}

func (p *priority) Validate(ctx context.Context, a *admission.Attributes) error {
	if !a.Is("scheduling.k8s.io", "priorityclasses") || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	class, ok := a.Object.(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault {
		return nil
	}
	have, err := p.standard(ctx)
	if err != nil {
		return err
	}
	if have != nil && have.Name != class.Name {
		return forbid(a, "PriorityClass %v is already marked as default. Only one default can exist", have.Name)
	}
	return nil
}

func (p *priority) prioritize(ctx context.Context, a *admission.Attributes, o *corev1.Pod) error {
	class, err := p.of(ctx, a, o.Spec.PriorityClassName)
	if err != nil {
		return err
	}
	if o.Spec.PriorityClassName == "" {
		o.Spec.PriorityClassName = class.Name
	}
	value, policy := class.Value, corev1.PreemptLowerPriority
	if class.PreemptionPolicy != nil {
		policy = *class.PreemptionPolicy
	}
	if given := o.Spec.Priority; given != nil && *given != value {
		return forbid(a, "the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, value)
	}
	if given := o.Spec.PreemptionPolicy; given != nil && *given != policy {
		return forbid(a, "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, policy)
	}
	o.Spec.Priority, o.Spec.PreemptionPolicy = &value, &policy
	return nil
}

// of finds a class by its name; without one, the standard class, or one of no name and priority 0.
func (p *priority) of(ctx context.Context, a *admission.Attributes, name string) (*schedulingv1.PriorityClass, error) {
	if name == "" {
		class, err := p.standard(ctx)
		if class == nil && err == nil {
			class = &schedulingv1.PriorityClass{}
		}
		return class, err
	}
	class, err := p.classes.PriorityClass(ctx, name)
	if apierrors.IsNotFound(err) {
		if value, ok := builtin[name]; ok { // not made yet
			return &schedulingv1.PriorityClass{Value: value}, nil
		}
		return nil, forbid(a, "no PriorityClass with name %v was found", name)
	}
	return class, err
}

// standard is the class of pods that name none, nil when there is no such class. Should there be several, after a race, it is the
// lowest.
func (p *priority) standard(ctx context.Context) (*schedulingv1.PriorityClass, error) {
	all, err := p.classes.PriorityClasses(ctx)
	if err != nil {
		return nil, err
	}
	var out *schedulingv1.PriorityClass
	for _, c := range all {
		if c.GlobalDefault && (out == nil || c.Value < out.Value) {
			out = c
		}
	}
	return out, nil
}
