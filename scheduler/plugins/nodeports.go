package plugins

import (
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const portsName = "NodePorts"

// ports refuses nodes on which a host port that the pod wants is taken.
type ports struct{ refusal *framework.Status }

func newPorts(framework.Parts) framework.Plugin {
	return ports{framework.Refuse(portsName, "node(s) didn't have free ports for the requested pod ports")}
}

func (ports) Name() string { return portsName }

func (ports) PreFilter(_ *framework.Notebook, p *nodeinfo.Pod, _ []*nodeinfo.Node) *framework.Status {
	if len(p.Ports) == 0 {
		return framework.Skipped
	}
	return nil
}

func (x ports) Filter(_ *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	if n.Ports.Conflict(p.Ports) {
		return x.refusal
	}
	return nil
}

func (ports) Helps(_ *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.PodGone:
		return len(e.Pod.Ports) > 0
	case framework.NodeAdded, framework.WaiterUpdated:
		return true
	}
	return false
}
