package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const unschedulableName = "NodeUnschedulable"

// unschedulable refuses cordoned nodes, except to pods that tolerate the taint of a cordon.
type unschedulable struct{ refusal *framework.Status }

func newUnschedulable(framework.Parts) framework.Plugin {
	return unschedulable{framework.RefuseForGood(unschedulableName, "node(s) were unschedulable")}
}

func (unschedulable) Name() string { return unschedulableName }

func (u unschedulable) Filter(_ *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	if !n.Object.Spec.Unschedulable || toleratesCordon(p) {
		return nil
	}
	return u.refusal
}

func toleratesCordon(p *nodeinfo.Pod) bool {
	return placement.Tolerates(p.Spec.Tolerations, &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
}

func (unschedulable) Helps(p *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.NodeAdded:
		return !e.Node.Spec.Unschedulable || toleratesCordon(p)
	case framework.NodeUpdated:
		return e.OldNode.Spec.Unschedulable && !e.Node.Spec.Unschedulable
	}
	return e.Kind == framework.WaiterUpdated
}
