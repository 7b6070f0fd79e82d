package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const fitName = "NodeResourcesFit"

// fit refuses nodes that have too little left of something the pod requests, or no room for one more pod, and prefers those
// that have the most left (least allocated).
type fit struct {
	common map[corev1.ResourceName]*framework.Status // the answers that nearly all refusals are, made once
}

func newFit(framework.Parts) framework.Plugin {
	f := fit{map[corev1.ResourceName]*framework.Status{}}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods} {
		f.common[name] = framework.Refuse(fitName, placement.Insufficient{Resource: name}.Reason())
	}
	return f
}

func (fit) Name() string { return fitName }

func (f fit) Filter(_ *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	short := placement.Fits(p.Want, n.Used, n.Allocatable, len(n.Pods))
	if len(short) == 0 {
		return nil
	}
	never := false
	for _, s := range short {
		never = never || s.Never()
	}
	if st := f.common[short[0].Resource]; len(short) == 1 && !never && st != nil {
		return st
	}
	reasons := make([]string, 0, len(short))
	for _, s := range short {
		reasons = append(reasons, s.Reason())
	}
	if never {
		return framework.RefuseForGood(fitName, reasons...)
	}
	return framework.Refuse(fitName, reasons...)
}

// Score is the mean share of CPU and memory that would be free.
func (fit) Score(_ *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) int64 {
	free := func(used, capacity int64) int64 {
		if capacity <= 0 || used >= capacity {
			return 0
		}
		return (capacity - used) * framework.MaxScore / capacity
	}
	return (free(n.Likely.MilliCPU+p.Likely.MilliCPU, n.Allocatable.MilliCPU) +
		free(n.Likely.Memory+p.Likely.Memory, n.Allocatable.Memory)) / 2
}

func (fit) Helps(p *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.NodeAdded:
		return fitsEmpty(p, e.Node)
	case framework.NodeUpdated:
		return grew(p, e.OldNode, e.Node) && fitsEmpty(p, e.Node)
	case framework.PodGone, framework.PodShrunk, framework.WaiterUpdated:
		return true
	}
	return false
}

func fitsEmpty(p *nodeinfo.Pod, n *corev1.Node) bool {
	return len(placement.Fits(p.Want, placement.Resources{}, placement.FromList(n.Status.Allocatable), 0)) == 0
}

// grew says whether a node offers more than before of something the pod wants.
func grew(p *nodeinfo.Pod, before, after *corev1.Node) bool {
	for name, q := range after.Status.Allocatable {
		if name != corev1.ResourcePods && p.Want.Of(name) == 0 {
			continue
		}
		if old, ok := before.Status.Allocatable[name]; !ok || q.Cmp(old) > 0 {
			return true
		}
	}
	return false
}
