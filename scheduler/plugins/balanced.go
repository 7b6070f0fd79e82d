package plugins

import (
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const balancedName = "NodeResourcesBalancedAllocation"

// balanced prefers nodes whose CPU and memory would be used to the same degree, so that neither is left over.
type balanced struct{}

func newBalanced(framework.Parts) framework.Plugin { return balanced{} }

func (balanced) Name() string { return balancedName }

func (balanced) PreScore(_ *framework.Notebook, p *nodeinfo.Pod, _ []*nodeinfo.Node) *framework.Status {
	if p.Want.MilliCPU == 0 && p.Want.Memory == 0 {
		return framework.Skipped // it would unbalance nothing
	}
	return nil
}

func (balanced) Score(_ *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) int64 {
	share := func(used, capacity int64) float64 {
		if capacity <= 0 {
			return 1
		}
		return min(1, float64(used)/float64(capacity))
	}
	cpu := share(n.Used.MilliCPU+p.Want.MilliCPU, n.Allocatable.MilliCPU)
	memory := share(n.Used.Memory+p.Want.Memory, n.Allocatable.Memory)
	apart := cpu - memory
	if apart < 0 {
		apart = -apart
	}
	return int64((1 - apart/2) * float64(framework.MaxScore)) // half the distance is the standard deviation of two
}
