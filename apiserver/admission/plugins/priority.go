package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/pod"
)

// priority turns the name of a priority class into a number. Only the two built-in classes exist until PriorityClass is served.
type priority struct{}

func (priority) Name() string { return "Priority" }

// classes are the built-in priority classes.
var classes = map[string]int32{
	"":                        0,
	"system-cluster-critical": pod.SystemCritical,
	"system-node-critical":    pod.SystemCritical + 1000,
}

func (priority) Mutate(_ context.Context, a *admission.Attributes) error {
	if !a.Is("", "pods") {
		return nil
	}
	switch a.Operation {
	case admission.Create:
		return prioritize(a, a.Object.(*corev1.Pod))
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

func prioritize(a *admission.Attributes, p *corev1.Pod) error {
	value, ok := classes[p.Spec.PriorityClassName]
	if !ok {
		return forbid(a, "no PriorityClass with name %v was found", p.Spec.PriorityClassName)
	}
	if given := p.Spec.Priority; given != nil && *given != value {
		return forbid(a, "the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, value)
	}
	policy := corev1.PreemptLowerPriority
	if given := p.Spec.PreemptionPolicy; given != nil && *given != policy {
		return forbid(a, "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, policy)
	}
	p.Spec.Priority, p.Spec.PreemptionPolicy = &value, &policy
	return nil
}
