package daemonset

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

// apply carries a plan out: what cannot be made does not keep what is to end from ending.
func (c *controller) apply(ctx context.Context, s scene, p plan) error {
	for _, o := range p.remove {
		switch o.Status.Phase {
		case corev1.PodFailed:
			c.pauses.grow(loop.KeyOf(s.ds), s.ds.UID, s.ds.Generation, target(o), s.now)
			c.t.Recorder.Eventf(s.ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", o.Namespace, o.Name, target(o))
		case corev1.PodSucceeded:
			c.t.Recorder.Eventf(s.ds, corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod %s/%s on node %s, will try to delete it", o.Namespace, o.Name, target(o))
		}
	}
	return errors.Join(c.create(ctx, s, p.create), c.remove(ctx, s, p.remove))
}

func (c *controller) create(ctx context.Context, s scene, nodes []string) error {
	pods := c.t.Clients.Kube.CoreV1().Pods(s.ds.Namespace)
	_, err := podset.SlowStart(ctx, len(nodes), func(ctx context.Context, i int) error {
		made, err := pods.Create(ctx, podFor(s.ds, s.hash, nodes[i]), metav1.CreateOptions{})
		if err != nil {
			if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				c.t.Recorder.Eventf(s.ds, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
			}
			return fmt.Errorf("creating a pod for node %s: %w", nodes[i], err)
		}
		c.ledger.Created(loop.KeyOf(s.ds), made)
		c.t.Recorder.Eventf(s.ds, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", made.Name)
		return nil
	})
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // nothing can be made there any more, and soon neither are we
	}
	return err
}

func (c *controller) remove(ctx context.Context, s scene, victims []*corev1.Pod) error {
	key := loop.KeyOf(s.ds)
	_, err := podset.Together(len(victims), func(i int) error {
		v := victims[i]
		c.ledger.Deleting(key, v.UID)
		err := c.t.Clients.Kube.CoreV1().Pods(v.Namespace).Delete(ctx, v.Name, *metav1.NewPreconditionDeleteOptions(string(v.UID)))
		if err != nil && !apierrors.IsNotFound(err) {
			c.ledger.Kept(key, v.UID)
			c.t.Recorder.Eventf(s.ds, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
			return fmt.Errorf("deleting pod %s: %w", v.Name, err)
		}
		c.t.Recorder.Eventf(s.ds, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", v.Name)
		return nil
	})
	return err
}
