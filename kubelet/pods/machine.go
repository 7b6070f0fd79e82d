package pods

import (
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/probes"
	"pilothouse.dev/pkg/pod"
)

// Decide says what to do next for a pod. It is pure: the same wish and sight give the same plan. The package doc draws the states.
func Decide(w Wish, s Seen, b Backoff) Plan {
	m := machine{w: w, s: s, b: b, plan: Plan{Waiting: map[string]Waiting{}}}
	if w.End != nil {
		m.end()
	} else {
		m.run()
	}
	return m.plan
}

type machine struct {
	w    Wish
	s    Seen
	b    Backoff
	plan Plan
	// tight: the pod's group is too small for what the pod was given.
	tight bool
}

// run brings the pod up and keeps it up.
func (m *machine) run() {
	p := m.w.Pod
	m.plan.Initialized = m.initialized()
	m.plan.Phase = m.phase()
	if finished(m.plan.Phase) {
		if m.stopSidecars(m.lastEnd().Add(grace(p)), least) {
			m.plan.Phase = m.unfinished() // until the last sidecar has ended
			return
		}
		m.plan.Final = true
		m.settle()
		return
	}
	if m.s.Sandbox != nil && !m.s.Sandbox.Ready {
		m.rebuild()
		return
	}
	if !m.anew() {
		return
	}
	m.steps()
	m.resizes()
	if !m.inits() {
		return
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		m.keep(c, pod.Regular)
		if m.starting(c) && c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
			break // the ones behind it wait for its hook
		}
	}
	for i := range p.Spec.EphemeralContainers {
		c := corev1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		if r := m.newest(c.Name); r == nil || r.State == containers.Created {
			m.keep(&c, pod.Ephemeral)
		}
	}
}

// steps begins the start steps whose turn it is.
func (m *machine) steps() {
	for _, st := range steps {
		ready := !m.s.Done[st.name]
		for _, before := range st.after {
			ready = ready && m.s.Done[before]
		}
		if ready {
			m.do(Action{Verb: Step, Name: st.name})
		}
	}
}

func (m *machine) prepared() bool {
	for _, st := range steps {
		if !m.s.Done[st.name] {
			return false
		}
	}
	return m.s.Sandbox != nil && m.s.Sandbox.Ready
}

// rebuild replaces a sandbox that is gone (the machine was restarted): what still runs of it is stopped first.
func (m *machine) rebuild() {
	if m.stopAll(m.s.Now.Add(grace(m.w.Pod)), least, "the pod's sandbox is gone") || len(m.s.Doing) > 0 {
		return
	}
	m.do(Action{Verb: Rebuild, ID: m.s.Sandbox.ID})
}

// initialized: every init container has passed. Once a regular container was made in this sandbox that stays so, whatever became of the records.
func (m *machine) initialized() bool {
	p := m.w.Pod
	if len(p.Spec.InitContainers) == 0 {
		return true
	}
	for _, c := range p.Spec.Containers {
		if r := m.newest(c.Name); r != nil && m.current(r) {
			return true
		}
	}
	for i := range p.Spec.InitContainers {
		if !m.passed(&p.Spec.InitContainers[i]) {
			return false
		}
	}
	return true
}

// passed: the init container lets the next one begin.
func (m *machine) passed(c *corev1.Container) bool {
	r := m.newest(c.Name)
	if r == nil || !m.current(r) {
		return false
	}
	if pod.Sidecar(c) {
		return r.State == containers.Running && m.s.Started[r.ID] || m.beyond(c.Name)
	}
	return r.State == containers.Exited && r.ExitCode == 0
}

// beyond: an init container behind that one was begun, so that one has passed, whatever became of it since.
func (m *machine) beyond(name string) bool {
	behind := false
	for i := range m.w.Pod.Spec.InitContainers {
		c := &m.w.Pod.Spec.InitContainers[i]
		if r := m.newest(c.Name); behind && r != nil && m.current(r) {
			return true
		}
		behind = behind || c.Name == name
	}
	return false
}

// inits tends the init containers: one after the other, sidecars kept up. It says whether the regular ones may run.
func (m *machine) inits() bool {
	p, done := m.w.Pod, m.plan.Initialized
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if done && !pod.Sidecar(c) {
			continue
		}
		if !m.passed(c) || pod.Sidecar(c) {
			m.keep(c, pod.Init)
		}
		if !done && !m.passed(c) {
			return false
		}
	}
	return true
}

// keep starts a container, or starts it again, or stops it where it must not go on.
func (m *machine) keep(c *corev1.Container, kind pod.Kind) {
	records := m.s.Records[c.Name]
	if f, failed := m.fault(c.Name); failed {
		m.plan.Waiting[c.Name] = Waiting{f.Reason, f.Message}
	}
	if m.busy(c.Name) {
		return
	}
	r := m.newest(c.Name)
	switch {
	case r == nil:
		m.begin(c, m.firstAttempt(c.Name), 0)
	case r.State == containers.Running:
		m.watchOver(c, kind, r)
	case r.State == containers.Created: // the kubelet ended between making and starting it
		m.do(Action{Verb: Remove, Name: c.Name, ID: r.ID})
	case kind == pod.Init && !m.current(r), m.former(r): // a new sandbox, or all begins anew: what it has done is done again
		m.begin(c, r.Attempt+1, m.next(r))
	case m.stoppedToResize(c, r):
		m.begin(c, r.Attempt+1, 0)
	case restarts(m.w.Pod, c, kind, r.ExitCode) || m.s.Replaced[r.ID]:
		m.restart(c, *r)
	}
	if len(records) > 2 && !m.busy(c.Name) {
		m.do(Action{Verb: Remove, Name: c.Name, ID: records[len(records)-1].ID})
	}
}

// watchOver ends a running container that is sick or was changed.
func (m *machine) watchOver(c *corev1.Container, kind pod.Kind, r *containers.Container) {
	a := Action{Verb: Stop, Name: c.Name, ID: r.ID, NoHook: m.s.Hooked[r.ID], Least: least, Deadline: m.s.Now.Add(grace(m.w.Pod))}
	switch ill, sick := m.s.Sick[r.ID]; {
	case sick:
		a.Why, a.Deadline = ill.Why, m.s.Now.Add(graceOf(m.w.Pod, c, ill.Probe))
		if ill.Probe != "" && restarts(m.w.Pod, c, kind, killed) {
			a.Why += ", will be restarted"
		}
	case r.Labels[labelImage] != "" && r.Labels[labelImage] != c.Image:
		a.Why, a.Replace = fmt.Sprintf("Container %s definition changed, will be restarted", c.Name), true
	case m.outgrown(c, r):
		a.Why = fmt.Sprintf("Container %s resize requires restart", c.Name)
	default:
		return
	}
	m.do(a)
}

// restart starts an ended container again when its back-off is over.
func (m *machine) restart(c *corev1.Container, ended containers.Container) {
	wait := m.b.wait(ended)
	if at := ended.Finished.Add(wait); m.s.Now.Before(at) && ended.Labels[labelImage] == c.Image {
		p := m.w.Pod
		m.plan.Waiting[c.Name] = Waiting{"CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			wait, c.Name, p.Name, p.Namespace, p.UID)}
		m.plan.again(at)
		return
	}
	m.begin(c, ended.Attempt+1, m.b.next(ended))
}

// begin gets the image and starts the container once the steps are done.
func (m *machine) begin(c *corev1.Container, attempt int, backoff time.Duration) {
	if !m.s.Images[c.Name] {
		m.do(Action{Verb: Pull, Name: c.Name})
		return
	}
	if m.prepared() && !m.tight {
		m.do(Action{Verb: Start, Name: c.Name, Attempt: attempt, Backoff: backoff, Round: m.round()})
	}
}

// firstAttempt counts on from what the API knows when no record is left of a container that ran.
func (m *machine) firstAttempt(name string) int {
	st := pod.ContainerStatus(m.w.Pod, name)
	if st == nil || (st.ContainerID == "" && st.LastTerminationState.Terminated == nil) {
		return 0
	}
	return int(st.RestartCount) + 1
}

func (m *machine) newest(name string) *containers.Container {
	if rs := m.s.Records[name]; len(rs) > 0 {
		return &rs[0]
	}
	return nil
}

// current: the record is of the sandbox that is in use, and of the present round of all containers.
func (m *machine) current(r *containers.Container) bool {
	return m.s.Sandbox != nil && r.SandboxID == m.s.Sandbox.ID && !m.former(r)
}

// fault is the last failure of pulling the container's image or that of one of the pod's volumes, or of starting it.
func (m *machine) fault(name string) (Fault, bool) {
	if f := m.s.Faults["container/"+name]; f.Reason != "" {
		return f, true
	}
	if f, ok := m.s.Faults["pull/"+name]; ok {
		return f, true
	}
	f := m.s.Faults["step/volumes"]
	return f, f.Reason != ""
}

// busy: something is being done, or is about to be, with the container.
func (m *machine) busy(name string) bool {
	return m.underWay("container/" + name)
}

func (m *machine) starting(c *corev1.Container) bool {
	is := func(a Action) bool { return a.Verb == Start && a.Name == c.Name }
	return is(m.s.Doing["container/"+c.Name]) || slices.ContainsFunc(m.plan.Do, is)
}

func (m *machine) underWay(key string) bool {
	_, doing := m.s.Doing[key]
	return doing || slices.ContainsFunc(m.plan.Do, func(a Action) bool { return a.key() == key })
}

// do adds an action unless one of its key is under way, or failed and must wait. A stop waits for a stop that failed, but for nothing else.
func (m *machine) do(a Action) {
	key := a.key()
	if m.underWay(key) {
		return
	}
	if f, failed := m.s.Faults[key]; failed && m.s.Now.Before(f.Until) && (a.Verb != Stop || f.Verb == Stop) {
		m.plan.again(f.Until)
		return
	}
	m.plan.Do = append(m.plan.Do, a)
}

func grace(p *corev1.Pod) time.Duration {
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		return seconds(*s)
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// graceOf is how long a container gets that is restarted because of a probe, which may name its own time.
func graceOf(p *corev1.Pod, c *corev1.Container, by probes.Kind) time.Duration {
	probe := map[probes.Kind]*corev1.Probe{probes.Liveness: c.LivenessProbe, probes.Startup: c.StartupProbe}[by]
	if probe != nil && probe.TerminationGracePeriodSeconds != nil {
		return seconds(*probe.TerminationGracePeriodSeconds)
	}
	return grace(p)
}

// seconds is a time that a user names; a lifetime is the most, for more would wrap round to none.
func seconds(n int64) time.Duration {
	return time.Duration(min(n, math.MaxInt32)) * time.Second
}

// lastEnd is when the last of the pod's own containers ended: from then on its sidecars have the grace period.
func (m *machine) lastEnd() time.Time {
	last := time.Time{}
	for kind, c := range pod.Containers(m.w.Pod) {
		if r := m.newest(c.Name); r != nil && (kind != pod.Init || !pod.Sidecar(c)) && r.Finished.After(last) {
			last = r.Finished
		}
	}
	if last.IsZero() {
		return m.s.Now
	}
	return last
}

// unfinished is the phase of a pod that is to have its last one when the rest has ended.
func (m *machine) unfinished() corev1.PodPhase {
	if !m.plan.Initialized && m.w.Pod.Status.Phase != corev1.PodRunning {
		return corev1.PodPending
	}
	return corev1.PodRunning
}

const (
	least  = 2 * time.Second // what every container has to hear TERM
	killed = 137             // the exit code of what is stopped by force, for the question whether it would be started again
)
