package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/admission"
)

// taintNewNodes keeps pods off a node until the node lifecycle controller has seen it ready.
type taintNewNodes struct{}

func (taintNewNodes) Name() string { return "TaintNodesByCondition" }

func (taintNewNodes) Mutate(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "nodes") {
		return nil
	}
	spec := &a.Object.(*corev1.Node).Spec
	taint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	for _, t := range spec.Taints {
		if t.MatchTaint(&taint) {
			return nil
		}
	}
	spec.Taints = append(spec.Taints, taint)
	return nil
}
