package pods

import (
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/pkg/pod"
)

// drained says until when the containers of a pod that is to end are not told so: its deletion travels to the endpoints of its services and from
// there to the rules of every node, and what connects meanwhile must find somebody. Only a pod that takes requests has that time: one that is ready
// and that a service selects. It is part of the grace period, at most half of it. Containers with a preStop hook are ended as their hook says.
// A pod that the node must have gone at once does not wait either
// (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#hard-eviction-thresholds).
// Asked once, when the end is asked for; zero: there is nothing to wait for.
func (w *worker) drained(s *state) time.Time {
	if s.evicted != nil && !s.evicted.By.After(s.seen.Now) {
		return time.Time{}
	}
	if s.gone || s.final != nil || w.cfg.Drain <= 0 || s.last == nil || !readyIn(s.last) {
		return time.Time{}
	}
	services, err := w.parts.Services()
	if err != nil { // of an informer's cache: not known yet
		w.log.Warn("ending a pod without knowing whether services lead to it", zap.Error(err))
		return time.Time{}
	}
	for _, svc := range services {
		if svc.Namespace == s.pod.Namespace && len(svc.Spec.Selector) > 0 && svc.Spec.Type != corev1.ServiceTypeExternalName &&
			labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(s.pod.Labels)) {
			return s.seen.Now.Add(min(w.cfg.Drain, s.endGrace/2))
		}
	}
	return time.Time{}
}

func readyIn(st *corev1.PodStatus) bool {
	for _, c := range st.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// serves: the container is not to be told yet that it is to end.
func (m *machine) serves(name string) bool {
	if m.w.End == nil || !m.s.Now.Before(m.w.End.From) {
		return false
	}
	for _, c := range pod.Containers(m.w.Pod) {
		if c.Name == name && c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			return false
		}
	}
	m.plan.again(m.w.End.From)
	return true
}
