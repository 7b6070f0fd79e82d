package plugins

import (
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const nodeNameName = "NodeName"

// nodeName refuses all nodes but the one that the pod's spec names.
type nodeName struct{ refusal *framework.Status }

func newNodeName(framework.Parts) framework.Plugin {
	return nodeName{framework.RefuseForGood(nodeNameName, "node(s) didn't match the requested node name")}
}

func (nodeName) Name() string { return nodeNameName }

func (nodeName) PreFilter(_ *framework.Notebook, p *nodeinfo.Pod, _ []*nodeinfo.Node) *framework.Status {
	if p.Spec.NodeName == "" {
		return framework.Skipped
	}
	return nil
}

func (x nodeName) Filter(_ *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	if p.Spec.NodeName == "" || p.Spec.NodeName == n.Name {
		return nil
	}
	return x.refusal
}

func (nodeName) Helps(p *nodeinfo.Pod, e framework.Event) bool {
	return e.Kind == framework.NodeAdded && e.Node.Name == p.Spec.NodeName
}
