package daemonset

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/placement"
)

// fit is what a DaemonSet demands of a node, parsed once for all nodes.
type fit struct {
	node        string // the only one, should the template name one
	required    placement.Required
	tolerations []corev1.Toleration
}

// verdict says of a node whether a pod is to be made there, and whether one that is there may stay.
type verdict struct{ run, stay bool }

func newFit(ds *appsv1.DaemonSet) fit {
	t := &ds.Spec.Template.Spec
	return fit{
		node: t.NodeName, tolerations: tolerations(t),
		required: placement.RequiredAffinity(&corev1.Pod{Spec: corev1.PodSpec{NodeSelector: t.NodeSelector, Affinity: t.Affinity}}),
	}
}

// judge looks at a node; none at all is no place for a pod. What an affinity that cannot be read selects, nothing does.
func (f fit) judge(n *corev1.Node) verdict {
	if n == nil || f.node != "" && f.node != n.Name {
		return verdict{}
	}
	if ok, err := f.required.Match(n); err != nil || !ok {
		return verdict{}
	}
	if placement.Untolerated(n.Spec.Taints, f.tolerations, corev1.TaintEffectNoExecute) != nil {
		return verdict{}
	}
	return verdict{stay: true, run: placement.Untolerated(n.Spec.Taints, f.tolerations, corev1.TaintEffectNoSchedule) == nil}
}

// sameForPlacement says that no DaemonSet can tell the two states of a node apart.
func sameForPlacement(a, b *corev1.Node) bool {
	return equality.Semantic.DeepEqual(a.Labels, b.Labels) && equality.Semantic.DeepEqual(a.Spec.Taints, b.Spec.Taints)
}

// tolerations are those of the template and what every daemon tolerates: what ails the node is no reason to leave it, or not to
// come. See https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations.
func tolerations(t *corev1.PodSpec) []corev1.Toleration {
	all := slices.Clone(t.Tolerations)
	add := func(key string, effect corev1.TaintEffect) {
		want := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		for i := range all {
			if all[i].MatchToleration(&want) {
				all[i] = want // without an end to it
				return
			}
		}
		all = append(all, want)
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if t.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
	return all
}

// generationLabel tells by number of which template a pod is; the hash of the revision, in another label, tells the same by name.
const generationLabel = "pod-template-generation"

// podFor is a pod of the present template for a node.
func podFor(ds *appsv1.DaemonSet, hash, node string) *corev1.Pod {
	p := podset.FromTemplate(&ds.Spec.Template, ds, kind)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	if g := ds.Annotations[appsv1.DeprecatedTemplateGeneration]; g != "" {
		p.Labels[generationLabel] = g
	}
	p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	p.Spec.Tolerations = tolerations(&p.Spec)
	pin(&p.Spec, node)
	return p
}

// pin makes the scheduler bind a pod to this node or to none. What else the template requires of a node has been looked at.
func pin(spec *corev1.PodSpec, node string) {
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
	}}}
}

// target is the node a pod is on, or pinned to; empty when it is neither.
func target(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range t.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}
