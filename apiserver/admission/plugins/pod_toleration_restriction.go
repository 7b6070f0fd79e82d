package plugins

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/configfile"
	"pilothouse.dev/pkg/pod"
)

// podTolerations gives pods the tolerations of their namespace, and holds them to those that it allows
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#podtolerationrestriction).
type podTolerations struct {
	namespaces Namespaces

	// Set by configure, for namespaces whose annotations say nothing.
	standard, allowed []corev1.Toleration
}

const (
	annotationTolerations        = "scheduler.alpha.kubernetes.io/defaultTolerations"
	annotationAllowedTolerations = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
)

func (*podTolerations) Name() string { return "PodTolerationRestriction" }

func (p *podTolerations) configure(d configfile.Document) error {
	if d.Empty() {
		return nil
	}
	var c struct {
		metav1.TypeMeta `json:",inline"`
		Default         []corev1.Toleration `json:"default"`
		Whitelist       []corev1.Toleration `json:"whitelist"`
	}
	if err := d.Versioned(&c, "Configuration", "podtolerationrestriction.admission.k8s.io/v1alpha1"); err != nil {
		return err
	}
	p.standard, p.allowed = c.Default, c.Whitelist
	return nil
}

func (p *podTolerations) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "pods") {
		return nil
	}
	more, err := p.of(ctx, a, annotationTolerations, p.standard)
	if err != nil {
		return err
	}
	o := a.Object.(*corev1.Pod)
	o.Spec.Tolerations = merged(o.Spec.Tolerations, more)
	if pod.SpecQoS(o) != corev1.PodQOSBestEffort {
		o.Spec.Tolerations = merged(o.Spec.Tolerations, []corev1.Toleration{
			{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		})
	}
	return p.Validate(ctx, a)
}

func (p *podTolerations) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create && a.Operation != admission.Update || !a.Is("", "pods") {
		return nil
	}
	o := a.Object.(*corev1.Pod)
	if len(o.Spec.Tolerations) == 0 {
		return nil
	}
	allowed, err := p.of(ctx, a, annotationAllowedTolerations, p.allowed)
	if err != nil {
		return err
	}
	if len(allowed) == 0 {
		return nil
	}
	for _, t := range o.Spec.Tolerations {
		if !covered(allowed, t) {
			return forbid(a, "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist")
		}
	}
	return nil
}

// of is what an annotation of the pod's namespace lists; an empty one lists nothing, and without one it is what otherwise holds.
func (p *podTolerations) of(ctx context.Context, a *admission.Attributes, annotation string, otherwise []corev1.Toleration) ([]corev1.Toleration, error) {
	ns, err := p.namespaces.Namespace(ctx, a.Namespace)
	if err != nil {
		return nil, err
	}
	text, ok := ns.Annotations[annotation]
	if !ok {
		return otherwise, nil
	}
	var all []corev1.Toleration
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, forbid(a, "annotation %s of its namespace: %w", annotation, err)
	}
	return all, nil
}

// merged is both lists without those that another one covers.
func merged(have, more []corev1.Toleration) []corev1.Toleration {
	if len(more) == 0 {
		return have
	}
	var out []corev1.Toleration
	for _, t := range append(append([]corev1.Toleration{}, have...), more...) {
		if covered(out, t) {
			continue
		}
		kept := out[:0]
		for _, o := range out {
			if !covers(t, o) {
				kept = append(kept, o)
			}
		}
		out = append(kept, t)
	}
	return out
}

func covered(by []corev1.Toleration, t corev1.Toleration) bool {
	for _, b := range by {
		if covers(b, t) {
			return true
		}
	}
	return false
}

// covers says whether wide tolerates all that t does, and as long.
func covers(wide, t corev1.Toleration) bool {
	if hasToleration([]corev1.Toleration{wide}, t) {
		return true
	}
	exists := wide.Operator == corev1.TolerationOpExists
	if wide.Key != t.Key && (wide.Key != "" || !exists) {
		return false
	}
	if wide.Effect != "" && wide.Effect != t.Effect {
		return false
	}
	if wide.Effect == corev1.TaintEffectNoExecute && wide.TolerationSeconds != nil &&
		(t.TolerationSeconds == nil || *t.TolerationSeconds > *wide.TolerationSeconds) {
		return false
	}
	switch wide.Operator {
	case corev1.TolerationOpExists:
		return true
	case corev1.TolerationOpEqual, "":
		return (t.Operator == corev1.TolerationOpEqual || t.Operator == "") && t.Value == wide.Value
	}
	return false
}
