package plugins

import (
	"fmt"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const gatesName = "SchedulingGates"

// gates keeps a pod out of the queue while spec.schedulingGates is not empty.
type gates struct{}

func newGates(framework.Parts) framework.Plugin { return gates{} }

func (gates) Name() string { return gatesName }

func (gates) PreEnqueue(p *nodeinfo.Pod) *framework.Status {
	if len(p.Spec.SchedulingGates) == 0 {
		return nil
	}
	names := make([]string, 0, len(p.Spec.SchedulingGates))
	for _, g := range p.Spec.SchedulingGates {
		names = append(names, g.Name)
	}
	return framework.RefuseForGood(gatesName, fmt.Sprintf("waiting for scheduling gates: %v", names))
}

func (gates) Helps(_ *nodeinfo.Pod, e framework.Event) bool { return e.Kind == framework.WaiterUpdated }
