package pods

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// The part of the machine that starts all containers of a pod anew, init containers first, because one of them ended with an exit code for which its
// rules demand that (restartPolicyRules, action RestartAllContainers: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/). The sandbox
// and the volumes stay. Nothing is remembered for it: who ended so stands in the records, and a label says of which round a container is. Times would
// not do: the clock may be set.

// roundOf is how often all containers had been started anew when this one was made.
func roundOf(r *containers.Container) int {
	n, err := strconv.Atoi(r.Labels[labelRound])
	if err != nil {
		return 0 // no label: never
	}
	return n
}

// round is that of containers which are started now.
func (m *machine) round() (n int) {
	for _, rs := range m.s.Records {
		for i := range rs {
			n = max(n, roundOf(&rs[i]))
		}
	}
	if call := m.call(); call != nil {
		n = max(n, roundOf(call)+1)
	}
	return n
}

// call is the end of a container that called for a new round last; nil without one.
func (m *machine) call() *containers.Container {
	var last *containers.Container
	for kind, c := range pod.Containers(m.w.Pod) {
		if kind == pod.Ephemeral || len(c.RestartPolicyRules) == 0 {
			continue
		}
		for i := range m.s.Records[c.Name] {
			r := &m.s.Records[c.Name][i]
			if r.State == containers.Exited && ruled(c, r.ExitCode) == corev1.ContainerRestartRuleActionRestartAllContainers &&
				(last == nil || roundOf(r) > roundOf(last) || roundOf(r) == roundOf(last) && r.Finished.After(last.Finished)) {
				last = r
			}
		}
	}
	return last
}

// former: the record is of a round before the last call.
func (m *machine) former(r *containers.Container) bool {
	call := m.call()
	return call != nil && roundOf(r) <= roundOf(call)
}

// anew ends what still runs of a former round, and says whether the new one may begin.
func (m *machine) anew() bool {
	call := m.call()
	if call == nil {
		return true
	}
	running := false
	for kind, c := range pod.Containers(m.w.Pod) {
		if r := m.newest(c.Name); r != nil && kind != pod.Ephemeral && m.former(r) {
			m.plan.Anew = true
			if r.State == containers.Running {
				running = true
				m.stop(c.Name, r.ID, m.s.Now.Add(grace(m.w.Pod)), least, fmt.Sprintf("Container %s will be restarted with all others of its pod", c.Name))
			}
		}
	}
	if running {
		return false
	}
	if !m.plan.Anew {
		return true
	}
	if at := call.Finished.Add(m.b.wait(*call)); m.s.Now.Before(at) {
		p := m.w.Pod
		m.plan.Waiting[call.Name] = Waiting{"CrashLoopBackOff", fmt.Sprintf("back-off %s restarting all containers of pod=%s_%s(%s)", m.b.wait(*call), p.Name, p.Namespace, p.UID)}
		m.plan.again(at)
		return false
	}
	return true
}

// next is the back-off that the successor of a container of a former round, or of a former sandbox, gets.
func (m *machine) next(r *containers.Container) time.Duration {
	if call := m.call(); call != nil && call.ID == r.ID {
		return m.b.next(*r)
	}
	return 0
}
