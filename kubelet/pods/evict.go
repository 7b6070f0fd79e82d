package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pod"
)

// Evict ends a pod with phase Failed, within the grace period. With a disruption it gets the condition DisruptionTarget with that message: it did
// nothing wrong, the node wants it to go. Evicting one that is not there, or ends already, does nothing.
func (ws *Workers) Evict(uid types.UID, reason, message string, grace time.Duration, disruption string) {
	if w := ws.worker(uid); w != nil {
		w.post(func(s *state) {
			if s.evicted == nil && s.final == nil {
				s.evicted = &End{Phase: corev1.PodFailed, Reason: reason, Message: message, Disruption: disruption, By: time.Now().Add(grace)}
				w.tell(s.pod, "", corev1.EventTypeWarning, reason, "%s", message)
			}
		})
	}
}

// Ended says whether a pod has ended for good and the API knows it, or it is not there at all.
func (ws *Workers) Ended(uid types.UID) bool {
	w := ws.worker(uid)
	return w == nil || w.ended.Load()
}

// resumed is the end that a former life of the kubelet had begun for the node's sake, as the pod's status says; nil: none. The containers' time is over.
func resumed(p *corev1.Pod) *End {
	c := pod.Condition(p, corev1.DisruptionTarget)
	if finished(p.Status.Phase) || p.Status.Reason == "" || c == nil || c.Reason != corev1.PodReasonTerminationByKubelet || c.Status != corev1.ConditionTrue {
		return nil
	}
	return &End{Phase: corev1.PodFailed, Reason: p.Status.Reason, Message: p.Status.Message, Disruption: c.Message, By: time.Now()}
}

// disrupted puts the condition DisruptionTarget into a status (https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions).
func disrupted(st *corev1.PodStatus, p *corev1.Pod, message string, now time.Time) {
	if message == "" {
		return
	}
	pod.SetCondition(st, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet,
		Message: message, ObservedGeneration: p.Generation}, now.Truncate(time.Second))
}
