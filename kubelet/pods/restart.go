package pods

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// Backoff is how long a container that ended waits before it is started again: at once the first time, then First, doubling up to Max. One that ran
// for Calm begins anew.
type Backoff struct{ First, Max, Calm time.Duration }

// labelBackoff holds how long the container waits after it has ended. It is decided when the container is created, so a restart of
// the kubelet finds it again.
const labelBackoff = "pilothouse.dev/backoff"

// wait is how long after its end the container may be started again.
func (b Backoff) wait(ended containers.Container) time.Duration {
	if b.calm(ended) {
		return 0
	}
	d, err := time.ParseDuration(ended.Labels[labelBackoff])
	if err != nil || d < 0 {
		return 0 // no label: a container of another hand, or none yet
	}
	return min(d, b.Max)
}

// next is the wait that the successor of an ended container gets.
func (b Backoff) next(ended containers.Container) time.Duration {
	return min(max(2*b.wait(ended), b.First), b.Max)
}

func (b Backoff) calm(ended containers.Container) bool {
	return !ended.Started.IsZero() && ended.Finished.Sub(ended.Started) >= b.Calm
}

// ruled is what the first of the container's own rules that fits the exit code demands; empty: none fits.
func ruled(c *corev1.Container, code int) corev1.ContainerRestartRuleAction {
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil || rule.Action != corev1.ContainerRestartRuleActionRestart && rule.Action != corev1.ContainerRestartRuleActionRestartAllContainers {
			continue
		}
		in := slices.Contains(rule.ExitCodes.Values, int32(code))
		if in == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return rule.Action
		}
	}
	return ""
}

// restarts says whether a container that ended with that code is to be started again while its pod is wished to run.
func restarts(p *corev1.Pod, c *corev1.Container, kind pod.Kind, code int) bool {
	if kind == pod.Init && pod.Sidecar(c) {
		return true
	}
	if kind == pod.Ephemeral {
		return false
	}
	if ruled(c, code) != "" {
		return true
	}
	policy := p.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	default: // Always: an init container has done its work once it succeeded
		return kind == pod.Regular || code != 0
	}
}
