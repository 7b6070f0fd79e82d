package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the Progressing condition, as users and kubectl know them.
const (
	reasonCreated   = "NewReplicaSetCreated"
	reasonFound     = "FoundNewReplicaSet"
	reasonUpdated   = "ReplicaSetUpdated"
	reasonAvailable = "NewReplicaSetAvailable"
	reasonTimedOut  = "ProgressDeadlineExceeded"
	reasonPaused    = "DeploymentPaused"
	reasonResumed   = "DeploymentResumed"
)

// count sums the ReplicaSets' numbers; conditions stay.
func count(r *rollout) appsv1.DeploymentStatus {
	s := *r.d.Status.DeepCopy()
	s.ObservedGeneration = r.d.Generation
	s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = 0, 0, 0, 0
	var terminating int32
	for _, rs := range r.all() {
		s.Replicas += rs.Status.Replicas
		s.ReadyReplicas += rs.Status.ReadyReplicas
		s.AvailableReplicas += rs.Status.AvailableReplicas
		if rs.Status.TerminatingReplicas != nil {
			terminating += *rs.Status.TerminatingReplicas
		}
	}
	if r.fresh != nil {
		s.UpdatedReplicas = r.fresh.Status.Replicas
	}
	s.TerminatingReplicas = &terminating
	s.UnavailableReplicas = max(sum(r.all())-s.AvailableReplicas, 0)
	return s
}

// nextStatus is the status by what the caches show, and after how long the deadline must be looked at. fresh is the present
// template's ReplicaSet as decided, perhaps just created.
func nextStatus(r *rollout, created bool, fresh *appsv1.ReplicaSet, now time.Time) (appsv1.DeploymentStatus, time.Duration) {
	s := count(r)
	if s.AvailableReplicas >= r.want-r.lack {
		setCondition(&s, condition(appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.", now))
	} else {
		setCondition(&s, condition(appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", now))
	}
	failing(&s, r)
	if !hasDeadline(r.d) {
		drop(&s, appsv1.DeploymentProgressing)
		return s, 0
	}
	return s, progress(&s, r, created, fresh, now)
}

// failing passes on why ReplicaSets cannot make or end pods, the present template's first.
func failing(s *appsv1.DeploymentStatus, r *rollout) {
	for _, rs := range r.all() {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				setCondition(s, appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastUpdateTime: c.LastTransitionTime, LastTransitionTime: c.LastTransitionTime,
				})
				return
			}
		}
	}
	drop(s, appsv1.DeploymentReplicaFailure)
}

// progress keeps the Progressing condition: its update time is when something last moved, and the deadline counts from there.
func progress(s *appsv1.DeploymentStatus, r *rollout, created bool, fresh *appsv1.ReplicaSet, now time.Time) time.Duration {
	say := func(status corev1.ConditionStatus, reason, message string) {
		setCondition(s, condition(appsv1.DeploymentProgressing, status, reason, message, now))
	}
	last := find(s, appsv1.DeploymentProgressing)
	if r.d.Spec.Paused {
		if last == nil || last.Reason != reasonPaused && last.Reason != reasonTimedOut {
			say(corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
		}
		return 0
	}
	who := fmt.Sprintf("Deployment %q", r.d.Name)
	if fresh != nil {
		who = fmt.Sprintf("ReplicaSet %q", fresh.Name)
	}
	switch {
	case created:
		say(corev1.ConditionTrue, reasonCreated, fmt.Sprintf("Created new replica set %q", fresh.Name))
		return deadline(r.d)
	case last != nil && last.Reason == reasonPaused:
		say(corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
		return deadline(r.d)
	case last == nil && fresh != nil:
		say(corev1.ConditionTrue, reasonFound, fmt.Sprintf("Found new replica set %q", fresh.Name))
		last = find(s, appsv1.DeploymentProgressing)
	}
	switch {
	case last != nil && last.Reason == reasonAvailable && s.Replicas == s.UpdatedReplicas:
		return 0 // done; what happens to pods after that is no rollout
	case complete(r.d, s):
		say(corev1.ConditionTrue, reasonAvailable, who+" has successfully progressed.")
		return 0
	case moved(&r.d.Status, s):
		refresh(s, condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonUpdated, who+" is progressing.", now))
		return deadline(r.d)
	case last == nil || last.Reason == reasonTimedOut:
		return 0
	case last.Reason == reasonAvailable:
		refresh(s, condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonUpdated, who+" is progressing.", now))
		return deadline(r.d) // a new rollout begins with a ReplicaSet that was there already
	}
	left := last.LastUpdateTime.Add(deadline(r.d)).Sub(now)
	if left > 0 {
		return left
	}
	say(corev1.ConditionFalse, reasonTimedOut, who+" has timed out progressing.")
	return 0
}

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func deadline(d *appsv1.Deployment) time.Duration {
	return time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
}

// complete: all replicas are of the present template, available, and no others are left.
func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	n := *d.Spec.Replicas
	return s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n && s.ObservedGeneration >= d.Generation
}

// moved says whether the rollout came nearer its end: more new ones, fewer old ones, more ready or available.
func moved(before, now *appsv1.DeploymentStatus) bool {
	return now.UpdatedReplicas > before.UpdatedReplicas ||
		now.Replicas-now.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		now.ReadyReplicas > before.ReadyReplicas || now.AvailableReplicas > before.AvailableReplicas
}

func condition(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) appsv1.DeploymentCondition {
	at := metav1.NewTime(now)
	return appsv1.DeploymentCondition{Type: t, Status: status, Reason: reason, Message: message, LastUpdateTime: at, LastTransitionTime: at}
}

func find(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			c := s.Conditions[i]
			return &c
		}
	}
	return nil
}

// setCondition changes nothing when status and reason stay; the transition time moves only with the status.
func setCondition(s *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	if old := find(s, c.Type); old != nil && old.Status == c.Status && old.Reason == c.Reason {
		return
	}
	refresh(s, c)
}

// refresh puts the condition in even if only its update time is new.
func refresh(s *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	if old := find(s, c.Type); old != nil && old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	drop(s, c.Type)
	s.Conditions = append(s.Conditions, c)
}

func drop(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == t })
}
