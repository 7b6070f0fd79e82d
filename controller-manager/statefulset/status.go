package statefulset

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/revisions"
	"pilothouse.dev/pkg/pod"
)

// nextStatus counts pods; those in gone are on their way out. It returns after how long another pod becomes available by mere waiting.
func nextStatus(set *appsv1.StatefulSet, pods []*corev1.Pod, gone map[types.UID]bool, current, update string, now time.Time) (appsv1.StatefulSetStatus, time.Duration) {
	s := *set.Status.DeepCopy()
	s.ObservedGeneration = set.Generation
	s.CurrentRevision, s.UpdateRevision = current, update
	s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas = int32(len(pods)), 0, 0, 0, 0
	if s.CollisionCount == nil {
		s.CollisionCount = new(int32)
	}
	var again time.Duration
	for _, p := range pods {
		if ready(p) {
			s.ReadyReplicas++
			ok, wait := pod.Available(p, set.Spec.MinReadySeconds, now)
			if ok {
				s.AvailableReplicas++
			} else if again == 0 || wait < again {
				again = wait
			}
		}
		if pod.Terminating(p) || gone[p.UID] {
			continue
		}
		if revisionOf(p) == current {
			s.CurrentReplicas++
		}
		if revisionOf(p) == update {
			s.UpdatedReplicas++
		}
	}
	if all := int32(replicas(set)); s.UpdatedReplicas == all && s.ReadyReplicas == all && s.Replicas == all {
		s.CurrentRevision, s.CurrentReplicas = update, s.UpdatedReplicas // the update is complete
	}
	return s, again
}

// currentOf finds the current revision; what is being updated to, when there is none yet or it is gone.
func currentOf(set *appsv1.StatefulSet, revs []*appsv1.ControllerRevision, update revision) (revision, error) {
	name := set.Status.CurrentRevision
	if name == update.name {
		return update, nil
	}
	for _, r := range revs {
		if r.Name != name {
			continue
		}
		t, err := revisions.Template(r.Data.Raw)
		if err != nil {
			return revision{}, fmt.Errorf("revision %s: %w", name, err)
		}
		return revision{name, t}, nil
	}
	return update, nil
}

// collided is the status that says that the name of the new revision was taken once more.
func collided(set *appsv1.StatefulSet) appsv1.StatefulSetStatus {
	s := *set.Status.DeepCopy()
	n := int32(1)
	if s.CollisionCount != nil {
		n += *s.CollisionCount
	}
	s.CollisionCount = &n
	return s
}

// say writes the status, if it says something new.
func (c *controller) say(ctx context.Context, set *appsv1.StatefulSet, status appsv1.StatefulSetStatus) error {
	want := set.DeepCopy()
	want.Status = status
	got, err := loop.Commit(ctx, c.t.Clients.Kube.AppsV1().StatefulSets(set.Namespace), set, want)
	if err == nil && got != set {
		c.wroteSet.Wrote(loop.KeyOf(set), got.ResourceVersion)
	}
	return err
}

// trim deletes revisions beyond the history limit that neither the status nor a pod refers to.
func (c *controller) trim(ctx context.Context, set *appsv1.StatefulSet, pods []*corev1.Pod, revs []*appsv1.ControllerRevision, s appsv1.StatefulSetStatus) error {
	limit := set.Spec.RevisionHistoryLimit
	if limit == nil || *limit < 0 {
		return nil
	}
	used := map[string]bool{s.CurrentRevision: true, s.UpdateRevision: true}
	for _, p := range pods {
		used[revisionOf(p)] = true
	}
	return c.history.Trim(ctx, revs, used, int(*limit))
}
