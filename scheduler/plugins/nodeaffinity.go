package plugins

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const (
	affinityName      = "NodeAffinity"
	affinityPreferred = "NodeAffinity/preferred" // page: *nodeaffinity.PreferredSchedulingTerms
)

// affinity refuses nodes whose labels or name do not satisfy nodeSelector and required node affinity, and prefers those that
// satisfy the heaviest preferred terms.
type affinity struct{ refusal *framework.Status }

func newAffinity(framework.Parts) framework.Plugin {
	return affinity{framework.RefuseForGood(affinityName, "node(s) didn't match Pod's node affinity/selector")}
}

func (affinity) Name() string { return affinityName }

func (a affinity) PreFilter(nb *framework.Notebook, p *nodeinfo.Pod, _ []*nodeinfo.Node) *framework.Status {
	required := placement.RequiredAffinity(p.Pod)
	if required.Any() {
		return framework.Skipped
	}
	if names, ok := namedNodes(p); ok {
		nb.Only(names, a.refusal)
	}
	nb.Write(affinityName, required)
	return nil
}

// namedNodes finds the nodes that a pod's required affinity names in every term, as that of a daemon set's pod does: then
// no other node need be looked at.
func namedNodes(p *nodeinfo.Pod) (names []string, ok bool) {
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil {
		return nil, false
	}
	required := p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		return nil, false
	}
	for _, term := range required.NodeSelectorTerms {
		named := false
		for _, f := range term.MatchFields {
			if f.Key == "metadata.name" && f.Operator == corev1.NodeSelectorOpIn {
				names, named = append(names, f.Values...), true
				break
			}
		}
		if !named {
			return nil, false
		}
	}
	return names, len(required.NodeSelectorTerms) > 0
}

func (a affinity) Filter(nb *framework.Notebook, _ *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	switch ok, err := framework.Read[placement.Required](nb, affinityName).Match(n.Object); {
	case err != nil:
		return framework.RefuseForGood(affinityName, err.Error())
	case !ok:
		return a.refusal
	}
	return nil
}

func (affinity) PreScore(nb *framework.Notebook, p *nodeinfo.Pod, _ []*nodeinfo.Node) *framework.Status {
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		return framework.Skipped
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return framework.Fail(affinityName, fmt.Errorf("reading preferred node affinity: %w", err))
	}
	nb.Write(affinityPreferred, terms)
	return nil
}

func (affinity) Score(nb *framework.Notebook, _ *nodeinfo.Pod, n *nodeinfo.Node) int64 {
	return framework.Read[*nodeaffinity.PreferredSchedulingTerms](nb, affinityPreferred).Score(n.Object)
}

func (affinity) Normalize(_ *framework.Notebook, _ []*nodeinfo.Node, scores []int64) {
	moreIsBetter(scores)
}

func (affinity) Helps(p *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.NodeUpdated:
		if maps.Equal(e.OldNode.Labels, e.Node.Labels) {
			return false
		}
		fallthrough
	case framework.NodeAdded:
		ok, err := placement.MatchesAffinity(p.Pod, e.Node)
		return ok && err == nil
	}
	return e.Kind == framework.WaiterUpdated
}
