package pods

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/probes"
	"pilothouse.dev/pkg/pod"
)

// mostTold is how many bytes of an error become an event or a reason to wait.
const mostTold = 4 << 10

// tell records an event about the pod, or about one of its containers.
func (w *worker) tell(p *corev1.Pod, container, kind, reason, format string, args ...any) {
	ref := &corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
	}
	if container != "" {
		list := "containers"
		if c, of := pod.Container(p, container); c != nil {
			list = map[pod.Kind]string{pod.Init: "initContainers", pod.Regular: "containers", pod.Ephemeral: "ephemeralContainers"}[of]
		}
		ref.FieldPath = fmt.Sprintf("spec.%s{%s}", list, container)
	}
	w.parts.Events.Eventf(ref, kind, reason, "%s", beginning(fmt.Sprintf(format, args...)))
}

// beginning is as much of a text as the API is told: what a registry, a plugin or a container says may be without end.
func beginning(text string) string {
	if len(text) <= mostTold {
		return text
	}
	return strings.ToValidUTF8(text[:mostTold], "") + "…"
}

// tellWaiting records the back-off of a container that keeps ending, once for each time it ended.
func (w *worker) tellWaiting(s *state, name string, wait Waiting) {
	rs := s.seen.Records[name]
	if wait.Reason != "CrashLoopBackOff" || len(rs) == 0 || s.waited[name] == rs[0].ID {
		return
	}
	s.waited[name] = rs[0].ID
	p := s.pod
	w.tell(p, name, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", name, p.Name, p.Namespace, p.UID)
}

// tellProbe records what a probe's try has to say.
func (w *worker) tellProbe(p *corev1.Pod, r probes.Result) {
	switch r.Outcome {
	case probes.Warned:
		w.tell(p, r.Container, corev1.EventTypeWarning, "ProbeWarning", "%s probe warning: %s", r.Kind, r.Complaint)
	case probes.Errored:
		w.tell(p, r.Container, corev1.EventTypeWarning, "Unhealthy", "%s probe errored and resulted in unknown state: %s", r.Kind, r.Complaint)
	default:
		w.tell(p, r.Container, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", r.Kind, r.Complaint)
	}
}

// mountsAt says whether the container mounts a volume of its own at the path.
func mountsAt(c *corev1.Container, at string) bool {
	return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return path.Clean("/"+m.MountPath) == at })
}
