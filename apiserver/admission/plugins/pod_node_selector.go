package plugins

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/configfile"
)

// podNodeSelector gives pods the node selector of their namespace, and holds them to the labels that the configuration allows it
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#podnodeselector).
type podNodeSelector struct {
	namespaces Namespaces

	// Set by configure: by namespace what is allowed, and for all that have no annotation.
	allowed  map[string]labels.Set
	standard labels.Set
}

const (
	annotationNodeSelector = "scheduler.alpha.kubernetes.io/node-selector"
	standardNodeSelector   = "clusterDefaultNodeSelector"
)

func (*podNodeSelector) Name() string { return "PodNodeSelector" }

func (p *podNodeSelector) configure(d configfile.Document) error {
	var c struct {
		Selectors map[string]string `json:"podNodeSelectorPluginConfig"`
	}
	if d.Empty() {
		return nil
	}
	if err := d.Into(&c); err != nil {
		return err
	}
	p.allowed = map[string]labels.Set{}
	for name, text := range c.Selectors {
		set, err := labels.ConvertSelectorToLabelsMap(text)
		if err != nil {
			return d.Invalid(field.ErrorList{field.Invalid(field.NewPath("podNodeSelectorPluginConfig").Child(name), text, err.Error())})
		}
		if name == standardNodeSelector {
			p.standard = set
			continue
		}
		p.allowed[name] = set
	}
	return nil
}

func (p *podNodeSelector) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "pods") {
		return nil
	}
	want, err := p.of(ctx, a)
	if err != nil {
		return err
	}
	o := a.Object.(*corev1.Pod)
	if labels.Conflicts(want, o.Spec.NodeSelector) {
		return forbid(a, "pod node label selector conflicts with its namespace node label selector")
	}
	if len(want) > 0 {
		o.Spec.NodeSelector = labels.Merge(want, o.Spec.NodeSelector)
	}
	return p.check(a, o)
}

// Validate looks at updates too: the selector of a pod that waits for its gates can still get more.
func (p *podNodeSelector) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create && a.Operation != admission.Update || !a.Is("", "pods") {
		return nil
	}
	if old, ok := a.Old.(*corev1.Pod); ok && maps.Equal(old.Spec.NodeSelector, a.Object.(*corev1.Pod).Spec.NodeSelector) {
		return nil
	}
	want, err := p.of(ctx, a)
	if err != nil {
		return err
	}
	o := a.Object.(*corev1.Pod)
	if labels.Conflicts(want, o.Spec.NodeSelector) {
		return forbid(a, "pod node label selector conflicts with its namespace node label selector")
	}
	return p.check(a, o)
}

func (p *podNodeSelector) check(a *admission.Attributes, o *corev1.Pod) error {
	allowed := p.allowed[a.Namespace]
	for key, value := range o.Spec.NodeSelector {
		if have, ok := allowed[key]; len(allowed) > 0 && (!ok || have != value) {
			return forbid(a, "pod node label selector labels conflict with its namespace whitelist")
		}
	}
	return nil
}

// of is what the namespace of a pod says.
func (p *podNodeSelector) of(ctx context.Context, a *admission.Attributes) (labels.Set, error) {
	ns, err := p.namespaces.Namespace(ctx, a.Namespace)
	if err != nil {
		return nil, err
	}
	text, ok := ns.Annotations[annotationNodeSelector]
	if !ok {
		return p.standard, nil
	}
	set, err := labels.ConvertSelectorToLabelsMap(text)
	if err != nil {
		return nil, forbid(a, "annotation %s of its namespace: %w", annotationNodeSelector, err)
	}
	return set, nil
}
