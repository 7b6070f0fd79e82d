package replicaset

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/pkg/pod"
)

// nextStatus counts the pods the cache shows. It returns after how long another pod becomes available by mere waiting.
func nextStatus(rs *appsv1.ReplicaSet, pods []*corev1.Pod, failed *failure, now time.Time) (appsv1.ReplicaSetStatus, time.Duration) {
	s := *rs.Status.DeepCopy()
	s.ObservedGeneration = rs.Generation
	s.Replicas, s.FullyLabeledReplicas, s.ReadyReplicas, s.AvailableReplicas = 0, 0, 0, 0
	var again time.Duration
	var terminating int32
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	for _, p := range pods {
		if !pod.Active(p) {
			if !pod.Terminal(p) {
				terminating++
			}
			continue
		}
		s.Replicas++
		if template.Matches(labels.Set(p.Labels)) {
			s.FullyLabeledReplicas++
		}
		if !pod.Ready(p) {
			continue
		}
		s.ReadyReplicas++
		ok, wait := pod.Available(p, rs.Spec.MinReadySeconds, now)
		if ok {
			s.AvailableReplicas++
		} else if wait > 0 && (again == 0 || wait < again) {
			again = wait
		}
	}
	s.TerminatingReplicas = &terminating
	s.Conditions = conditions(s.Conditions, failed, now)
	return s, again
}

// conditions sets or takes away ReplicaFailure; the time moves only when it appears or its reason changes.
func conditions(have []appsv1.ReplicaSetCondition, failed *failure, now time.Time) []appsv1.ReplicaSetCondition {
	i := slices.IndexFunc(have, func(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure })
	switch {
	case failed == nil && i < 0:
		return have
	case failed == nil:
		return slices.Delete(have, i, i+1)
	case i >= 0 && have[i].Reason == failed.reason:
		return have
	}
	c := appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
		Reason: failed.reason, Message: failed.err.Error(), LastTransitionTime: metav1.NewTime(now),
	}
	if i >= 0 {
		have = slices.Delete(have, i, i+1)
	}
	return append(have, c)
}
