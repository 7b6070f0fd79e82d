package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/pkg/pod"
)

var podColumns = []registry.Column[*corev1.Pod]{
	{Name: "Ready", Description: "Containers that are ready, of all.", Value: func(p *corev1.Pod) any {
		s := summarize(p)
		return fmt.Sprintf("%d/%d", s.ready, s.total)
	}},
	{Name: "Status", Description: "What the pod is doing, in one word.", Value: func(p *corev1.Pod) any { return summarize(p).reason }},
	{Name: "Restarts", Description: "How often its containers were restarted, and how long ago the last time.", Value: func(p *corev1.Pod) any {
		s := summarize(p)
		if s.restarts > 0 && !s.last.IsZero() {
			return fmt.Sprintf("%d (%s ago)", s.restarts, registry.AgeOf(s.last))
		}
		return fmt.Sprint(s.restarts)
	}},
	registry.Age[*corev1.Pod](),
	{Name: "IP", Priority: 1, Description: "Address of the pod.", Value: func(p *corev1.Pod) any {
		if len(p.Status.PodIPs) > 0 {
			return orElse(p.Status.PodIPs[0].IP, none)
		}
		return orElse(p.Status.PodIP, none)
	}},
	{Name: "Node", Priority: 1, Description: "Where it runs.", Value: func(p *corev1.Pod) any { return orElse(p.Spec.NodeName, none) }},
	{Name: "Nominated Node", Priority: 1, Description: "Where room is being made for it.", Value: func(p *corev1.Pod) any { return orElse(p.Status.NominatedNodeName, none) }},
	{Name: "Readiness Gates", Priority: 1, Description: "Conditions from outside that are true, of all it waits for.", Value: func(p *corev1.Pod) any { return gates(p) }},
}

// summary is what the columns say of a pod's containers.
type summary struct {
	reason       string
	ready, total int
	restarts     int
	last         metav1.Time // of a restart
}

func (s *summary) restarted(c *corev1.ContainerStatus) {
	s.restarts += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && s.last.Before(&t.FinishedAt) {
		s.last = t.FinishedAt
	}
}

// summarize finds the one word that tells an operator what to look at: the init container that holds the pod up, else the
// last container with something to say, else the phase; and over all of it whether the pod is being deleted.
func summarize(p *corev1.Pod) summary {
	s := summary{reason: string(p.Status.Phase), total: len(p.Spec.Containers)}
	if p.Status.Reason != "" {
		s.reason = p.Status.Reason
	}
	if c := pod.Condition(p, corev1.PodScheduled); c != nil && c.Reason == corev1.PodReasonSchedulingGated {
		s.reason = corev1.PodReasonSchedulingGated
	}
	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; pod.Sidecar(c) {
			sidecars[c.Name] = true
			s.total++
		}
	}
	beginning := s.begin(p, sidecars)
	initialized := pod.Condition(p, corev1.PodInitialized)
	if !beginning || initialized != nil && initialized.Status == corev1.ConditionTrue {
		s.run(p, sidecars)
	}
	if p.DeletionTimestamp != nil {
		switch {
		case p.Status.Reason == "NodeLost":
			s.reason = "Unknown"
		case !pod.Terminal(p):
			s.reason = "Terminating"
		}
	}
	return s
}

// begin walks the init containers up to the one the pod waits for, if any.
func (s *summary) begin(p *corev1.Pod, sidecars map[string]bool) bool {
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		s.restarted(c)
		t, w := c.State.Terminated, c.State.Waiting
		switch {
		case t != nil && t.ExitCode == 0:
			continue
		case sidecars[c.Name] && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case t != nil:
			s.reason = "Init:" + ended(t)
		case w != nil && w.Reason != "" && w.Reason != "PodInitializing":
			s.reason = "Init:" + w.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true
	}
	return false
}

// run walks the containers; the restarts of init containers that are over no longer count.
func (s *summary) run(p *corev1.Pod, sidecars map[string]bool) {
	s.restarts, s.last = 0, metav1.Time{}
	for i := range p.Status.InitContainerStatuses {
		if c := &p.Status.InitContainerStatuses[i]; sidecars[c.Name] {
			s.restarted(c)
		}
	}
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &p.Status.ContainerStatuses[i]
		s.restarted(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.reason = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.reason = ended(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason == "Completed" && running {
		s.reason = "NotReady"
		if pod.Ready(p) {
			s.reason = "Running"
		}
	}
}

func ended(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func gates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return none
	}
	open := 0
	for _, g := range p.Spec.ReadinessGates {
		if c := pod.Condition(p, g.ConditionType); c != nil && c.Status == corev1.ConditionTrue {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(p.Spec.ReadinessGates))
}
