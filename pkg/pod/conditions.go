package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition finds a condition in the pod's status, nil when it has none of that type. It points into the pod.
func Condition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	return condition(&p.Status, kind)
}

func condition(s *corev1.PodStatus, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

// Ready says whether the pod's Ready condition is true.
func Ready(p *corev1.Pod) bool {
	c := Condition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Available says whether the pod has been ready for at least minReadySeconds. If it is ready but not yet for so long, wait is
// the time until then; otherwise wait is zero.
func Available(p *corev1.Pod, minReadySeconds int32, now time.Time) (ok bool, wait time.Duration) {
	c := Condition(p, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return false, 0
	}
	if minReadySeconds <= 0 {
		return true, 0
	}
	least := time.Duration(minReadySeconds) * time.Second
	if c.LastTransitionTime.IsZero() {
		return false, least
	}
	if left := c.LastTransitionTime.Add(least).Sub(now); left > 0 {
		return false, left
	}
	return true, 0
}

// SetCondition puts c into the status and says whether that changed anything. The transition time moves only when the
// condition's status does; c's own, if set, is used then, and now otherwise.
func SetCondition(s *corev1.PodStatus, c corev1.PodCondition, now time.Time) bool {
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	old := condition(s, c.Type)
	if old == nil {
		s.Conditions = append(s.Conditions, c)
		return true
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	if c.LastProbeTime.IsZero() {
		c.LastProbeTime = old.LastProbeTime
	}
	same := old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message &&
		old.ObservedGeneration == c.ObservedGeneration && old.LastProbeTime.Equal(&c.LastProbeTime)
	*old = c
	return !same
}
