package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/admission"
)

// tolerateForAWhile lets pods stay on a node that has gone silent for some seconds, and no longer, unless they say otherwise
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#defaulttolerationseconds).
type tolerateForAWhile struct{ notReady, unreachable int64 }

func (*tolerateForAWhile) Name() string { return "DefaultTolerationSeconds" }

func (p *tolerateForAWhile) Mutate(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "pods") {
		return nil
	}
	spec := &a.Object.(*corev1.Pod).Spec
	for _, t := range [...]struct {
		key     string
		seconds int64
	}{{corev1.TaintNodeNotReady, p.notReady}, {corev1.TaintNodeUnreachable, p.unreachable}} {
		if tolerates(spec.Tolerations, t.key) {
			continue
		}
		spec.Tolerations = append(spec.Tolerations, corev1.Toleration{
			Key: t.key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &t.seconds,
		})
	}
	return nil
}

func tolerates(all []corev1.Toleration, key string) bool {
	for _, t := range all {
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}
