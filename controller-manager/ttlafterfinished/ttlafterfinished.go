// Package ttlafterfinished deletes Jobs that have been finished for as long as they say they want to be kept. It is called by
// the loop, woken by Jobs and by the time at which one's has run out, and writes nothing but deletions.
//
// What always holds: a Job is deleted only in the state that was looked at, so one whose time was prolonged a moment ago stays;
// its pods go first (foreground), and its own finalizers are honoured.
package ttlafterfinished

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/loop"
)

type controller struct {
	t    loop.Tools
	jobs batchlisters.JobLister
	late *prometheus.HistogramVec
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	c := &controller{
		t: t, jobs: t.Informers.Batch().V1().Jobs().Lister(),
		late: t.Metrics.Histogram("ttl_after_finished_controller_job_deletion_duration_seconds",
			"Seconds from the moment a finished job's time had run out to its deletion.", prometheus.ExponentialBuckets(0.1, 2, 14)),
	}
	return loop.Controller{
		Watches:   []loop.Watch{{Resource: "jobs.batch", Wakes: loop.Func("itself, when it has finished and is not to be kept for ever", due)}},
		Reconcile: c.reconcile,
	}
}

func due(e loop.Event) []loop.Key {
	j, ok := e.New.(*batchv1.Job)
	if !ok {
		return nil
	}
	if _, ok := expiry(j); !ok {
		return nil
	}
	return []loop.Key{loop.KeyOf(j)}
}

// expiry is when a job's time runs out, and false when it does not.
func expiry(j *batchv1.Job) (time.Time, bool) {
	ttl := j.Spec.TTLSecondsAfterFinished
	if ttl == nil || j.DeletionTimestamp != nil {
		return time.Time{}, false
	}
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime.Add(time.Duration(*ttl) * time.Second), true
		}
	}
	return time.Time{}, false
}

// left is how long a job is still to be kept; a finish in the future is a clock that is behind, ours or the other.
func left(expires, now time.Time) time.Duration { return max(0, expires.Sub(now)) }

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	j, err := c.jobs.Jobs(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	expires, ok := expiry(j)
	if !ok {
		return 0, nil
	}
	now := time.Now()
	if wait := left(expires, now); wait > 0 {
		if ttl := time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second; wait > ttl+time.Second {
			c.t.Log.Warn("a job finished in the future: a clock is wrong", zap.String("namespace", key.Namespace), zap.String("name", key.Name), zap.Duration("ahead", wait-ttl))
		}
		return wait, nil
	}
	err = c.t.Clients.Kube.BatchV1().Jobs(j.Namespace).Delete(ctx, j.Name, metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationForeground),
		Preconditions:     &metav1.Preconditions{UID: &j.UID, ResourceVersion: &j.ResourceVersion},
	})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // the change that came between wakes us, if anything is left to do
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("deleting a job whose time has run out: %w", err)
	}
	c.late.WithLabelValues().Observe(now.Sub(expires).Seconds())
	return 0, nil
}
