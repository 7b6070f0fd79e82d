package replicaset

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/pod"
)

// burst bounds what one look at a ReplicaSet creates or deletes; the rest follows when it is looked at again.
const burst = 500

// plan is what to do about the number of pods: at most one of the two.
type plan struct {
	create int
	remove int           // of these, the first in rank
	from   []*corev1.Pod // active pods
}

// decide compares the pods that live, or will as soon as the cache shows them, with the wish.
func decide(rs *appsv1.ReplicaSet, pods []*corev1.Pod, unseen podset.Unseen) plan {
	if rs.DeletionTimestamp != nil {
		return plan{}
	}
	var active []*corev1.Pod
	for _, p := range pods {
		if pod.Active(p) && !unseen.Deleting[p.UID] {
			active = append(active, p)
		}
	}
	switch diff := len(active) + unseen.Creating - int(*rs.Spec.Replicas); {
	case diff < 0:
		return plan{create: min(-diff, burst)}
	case diff > 0:
		return plan{remove: min(diff, burst, len(active)), from: active}
	}
	return plan{}
}

// failure is what went wrong with the pods, as the ReplicaFailure condition tells it.
type failure struct {
	reason string
	err    error
}

func (c *controller) apply(ctx context.Context, rs *appsv1.ReplicaSet, p plan, now time.Time) *failure {
	switch {
	case p.create > 0:
		if err := c.create(ctx, rs, p.create); err != nil {
			return &failure{"FailedCreate", err}
		}
	case p.remove > 0:
		related, err := c.related(rs)
		if err != nil {
			return &failure{"FailedDelete", err}
		}
		podset.Rank(p.from, podset.Spread(related), now)
		if err := c.remove(ctx, rs, p.from[:p.remove]); err != nil {
			return &failure{"FailedDelete", err}
		}
	}
	return nil
}

func (c *controller) create(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	pods := c.t.Clients.Kube.CoreV1().Pods(rs.Namespace)
	_, err := podset.SlowStart(ctx, n, func(ctx context.Context, _ int) error {
		made, err := pods.Create(ctx, podset.FromTemplate(&rs.Spec.Template, rs, c.sets.kind), metav1.CreateOptions{})
		if err != nil {
			if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				c.t.Recorder.Eventf(rs, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
			}
			return fmt.Errorf("creating a pod: %w", err)
		}
		c.ledger.Created(loop.KeyOf(rs), made)
		c.t.Recorder.Eventf(rs, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", made.Name)
		return nil
	})
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // nothing can be made there any more, and soon neither are we
	}
	return err
}

func (c *controller) remove(ctx context.Context, rs *appsv1.ReplicaSet, victims []*corev1.Pod) error {
	key := loop.KeyOf(rs)
	_, err := podset.Together(len(victims), func(i int) error {
		v := victims[i]
		c.ledger.Deleting(key, v.UID)
		err := c.t.Clients.Kube.CoreV1().Pods(v.Namespace).Delete(ctx, v.Name, *metav1.NewPreconditionDeleteOptions(string(v.UID)))
		if err != nil && !apierrors.IsNotFound(err) {
			c.ledger.Kept(key, v.UID)
			c.t.Recorder.Eventf(rs, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
			return fmt.Errorf("deleting pod %s: %w", v.Name, err)
		}
		c.t.Recorder.Eventf(rs, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", v.Name)
		return nil
	})
	return err
}

// related are the pods of all ReplicaSets that share this one's owner: the generations of one Deployment.
func (c *controller) related(rs *appsv1.ReplicaSet) ([]*corev1.Pod, error) {
	owner := metav1.GetControllerOfNoCopy(rs)
	if owner == nil {
		return c.pods.Owned(rs.UID)
	}
	siblings, err := c.sets.list(rs.Namespace)
	if err != nil {
		return nil, err
	}
	var all []*corev1.Pod
	for _, s := range siblings {
		if ref := metav1.GetControllerOfNoCopy(s); ref == nil || ref.UID != owner.UID {
			continue
		}
		pods, err := c.pods.Owned(s.UID)
		if err != nil {
			return nil, err
		}
		all = append(all, pods...)
	}
	return all, nil
}
