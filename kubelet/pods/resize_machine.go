package pods

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// The machine's part of resizes: how what runs comes to the sizes that the pod was given. Containers that can stay are changed in place by the action
// Resize; others are stopped, and start again with their new size. The pod's group is made larger before its containers are, and smaller after.

// labelSize is the size with which a container was started.
const labelSize = "pilothouse.dev/size"

// resizes compares sizes, and begins to change what can be changed in place.
func (m *machine) resizes() {
	z, p := m.w.Sizing, m.w.Pod
	change, restarts := false, false
	for kind, c := range pod.Containers(p) {
		r := m.newest(c.Name)
		if kind == pod.Ephemeral || r == nil {
			continue
		}
		if r.State != containers.Running {
			restarts = restarts || m.stoppedToResize(c, r) // until it is started again
			continue
		}
		want := z.sizeOf(p, c)
		if m.outgrown(c, r) {
			restarts = true
		} else if has, known := m.s.Sizes[r.ID]; known && has != want {
			change = true
		}
	}
	if group := m.s.Group; group != nil {
		want := z.podSize(p)
		m.tight = group.larger(want) != *group
		change = change || m.tight || *group != want && !restarts
	}
	m.plan.Resizing = change || restarts
	if change && m.s.Done["group"] {
		m.do(Action{Verb: Resize})
	}
}

// outgrown: the container was started with a size that it can leave only by being started again.
func (m *machine) outgrown(c *corev1.Container, r *containers.Container) bool {
	started, told := parseSize(r.Labels[labelSize])
	return told && mustRestart(c, started, m.w.Sizing.sizeOf(m.w.Pod, c))
}

// stoppedToResize: the container has ended because it had to be started again for its new size, as the pod's status tells.
func (m *machine) stoppedToResize(c *corev1.Container, r *containers.Container) bool {
	return r.State == containers.Exited && pod.Condition(m.w.Pod, corev1.PodResizeInProgress) != nil && m.outgrown(c, r)
}
