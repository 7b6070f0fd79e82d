package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const taintsName = "TaintToleration"

// taints refuses nodes with a NoSchedule or NoExecute taint that the pod does not tolerate, and prefers those with fewer
// PreferNoSchedule taints that it does not tolerate.
type taints struct{}

func newTaints(framework.Parts) framework.Plugin { return taints{} }

func (taints) Name() string { return taintsName }

func (taints) Filter(_ *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	if len(n.Object.Spec.Taints) == 0 {
		return nil
	}
	if t := placement.Repels(n.Object.Spec.Taints, p.Spec.Tolerations); t != nil {
		return framework.RefuseForGood(taintsName, fmt.Sprintf("node(s) had untolerated taint {%s: %s}", t.Key, t.Value))
	}
	return nil
}

func (taints) PreScore(_ *framework.Notebook, _ *nodeinfo.Pod, nodes []*nodeinfo.Node) *framework.Status {
	for _, n := range nodes {
		for i := range n.Object.Spec.Taints {
			if n.Object.Spec.Taints[i].Effect == corev1.TaintEffectPreferNoSchedule {
				return nil
			}
		}
	}
	return framework.Skipped
}

func (taints) Score(_ *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) int64 {
	var disliked int64
	for i := range n.Object.Spec.Taints {
		t := &n.Object.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule && !placement.Tolerates(p.Spec.Tolerations, t) {
			disliked++
		}
	}
	return disliked
}

func (taints) Normalize(_ *framework.Notebook, _ []*nodeinfo.Node, scores []int64) {
	fewerIsBetter(scores)
}

func (taints) Helps(p *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.NodeAdded:
		return placement.Repels(e.Node.Spec.Taints, p.Spec.Tolerations) == nil
	case framework.NodeUpdated:
		return !equality.Semantic.DeepEqual(e.OldNode.Spec.Taints, e.Node.Spec.Taints) &&
			placement.Repels(e.Node.Spec.Taints, p.Spec.Tolerations) == nil
	}
	return e.Kind == framework.WaiterUpdated
}
