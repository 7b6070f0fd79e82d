package pods

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// The second half of the machine: how a pod ends.

// end stops the pod's containers, gives everything back, and has the API object deleted where that was asked for.
func (m *machine) end() {
	e := m.w.End
	m.plan.Initialized = m.initialized()
	m.plan.Phase = m.lastPhase()
	for key, a := range m.s.Doing {
		switch a.Verb {
		case Stop, Hook:
			if a.Deadline.Sub(e.By) > 100*time.Millisecond {
				m.plan.Cancel = append(m.plan.Cancel, key) // the time was shortened: begin anew
			}
		case Teardown, Finish, Rebuild:
		default:
			m.plan.Cancel = append(m.plan.Cancel, key)
		}
	}
	slices.Sort(m.plan.Cancel)
	if m.stopAll(e.By, min(max(e.Grace, 0), least), "") || len(m.s.Doing) > 0 {
		if !finished(m.w.Pod.Status.Phase) {
			if m.plan.Phase = m.phase(); finished(m.plan.Phase) {
				m.plan.Phase = m.unfinished() // not its last one before all have ended
			}
		}
		return
	}
	m.plan.Final = true
	m.settle()
}

// stopAll stops what runs, the sidecars after all others, and says whether something still runs.
func (m *machine) stopAll(by time.Time, least time.Duration, why string) bool {
	running := false
	sidecars := map[string]bool{}
	for i := range m.w.Pod.Spec.InitContainers {
		if c := &m.w.Pod.Spec.InitContainers[i]; pod.Sidecar(c) {
			sidecars[c.Name] = true
		}
	}
	names := make([]string, 0, len(m.s.Records))
	for name := range m.s.Records {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, r := range m.s.Records[name] {
			if r.State == containers.Running && !sidecars[name] {
				running = true
				if !m.serves(name) {
					m.stop(name, r.ID, by, least, why)
				}
			}
		}
	}
	if running {
		m.hookSidecars(by, "")
	}
	return running || m.stopSidecars(by, least)
}

// hookSidecars runs the preStop hooks of all sidecars but that one, beside whatever is stopped before them.
func (m *machine) hookSidecars(by time.Time, but string) {
	for i := range m.w.Pod.Spec.InitContainers {
		c := &m.w.Pod.Spec.InitContainers[i]
		r := m.newest(c.Name)
		if r != nil && pod.Sidecar(c) && c.Name != but && r.State == containers.Running && !m.s.Hooked[r.ID] && c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			m.do(Action{Verb: Hook, Name: c.Name, ID: r.ID, Deadline: by})
		}
	}
}

// stopSidecars stops the last sidecar that runs, one at a time, and says whether one was running.
func (m *machine) stopSidecars(by time.Time, least time.Duration) bool {
	for i := len(m.w.Pod.Spec.InitContainers) - 1; i >= 0; i-- {
		c := &m.w.Pod.Spec.InitContainers[i]
		if r := m.newest(c.Name); r != nil && pod.Sidecar(c) && r.State == containers.Running {
			m.stop(c.Name, r.ID, by, least, "")
			m.hookSidecars(by, c.Name)
			return true
		}
	}
	return false
}

func (m *machine) stop(name, id string, by time.Time, least time.Duration, why string) {
	m.do(Action{Verb: Stop, Name: name, ID: id, Deadline: by, Least: least, Why: why, NoHook: m.s.Hooked[id]})
}

// settle gives back what a pod held that will not run again. Its records go with the sandbox, so unless the pod is being deleted the API must know
// its final status first.
func (m *machine) settle() {
	e := m.w.End
	deleting := e != nil && (e.Delete || e.Orphan)
	switch {
	case !m.s.Torn:
		if deleting || m.s.Recorded {
			m.do(Action{Verb: Teardown})
		}
	case !deleting:
	case e.Orphan:
		m.plan.Over = true
	case !m.s.Asked:
		m.do(Action{Verb: Finish})
	}
}

func finished(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// phase is the pod's phase while it is wished to run.
func (m *machine) phase() corev1.PodPhase {
	p := m.w.Pod
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		r := m.newest(c.Name)
		if r == nil || r.State != containers.Exited || m.plan.Initialized {
			continue
		}
		if r.ExitCode != 0 && !restarts(p, c, pod.Init, r.ExitCode) {
			return corev1.PodFailed
		}
	}
	var none, running, failed int
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		r := m.newest(c.Name)
		switch {
		case r == nil || r.State == containers.Created:
			none++
		case r.State == containers.Running || restarts(p, c, pod.Regular, r.ExitCode) || m.stoppedToResize(c, r) || m.s.Replaced[r.ID] || m.former(r):
			running++
		case r.ExitCode != 0:
			failed++
		}
	}
	switch {
	case p.Status.Phase == corev1.PodRunning && (!m.plan.Initialized || none > 0):
		return corev1.PodRunning // a phase never goes back
	case !m.plan.Initialized:
		return corev1.PodPending
	case none == len(p.Spec.Containers):
		return corev1.PodPending
	case none > 0 || running > 0:
		if none > 0 && p.Status.Phase != corev1.PodRunning {
			return corev1.PodPending
		}
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	default:
		return corev1.PodSucceeded
	}
}

// lastPhase is the phase of a pod that was made to end: by its containers' exit codes if the end itself does not say.
func (m *machine) lastPhase() corev1.PodPhase {
	if m.w.End.Phase != "" {
		return m.w.End.Phase
	}
	if pod.Terminal(m.w.Pod) {
		return m.w.Pod.Status.Phase
	}
	for i := range m.w.Pod.Spec.Containers {
		r := m.newest(m.w.Pod.Spec.Containers[i].Name)
		if r == nil || r.State != containers.Exited || r.ExitCode != 0 {
			return corev1.PodFailed
		}
	}
	return corev1.PodSucceeded
}
