package preempt

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/scheduler/nodeinfo"
)

// API is what evictions ask of the API server. Safe for concurrent use.
type API interface {
	// MarkDisrupted writes the condition DisruptionTarget into a pod's status.
	MarkDisrupted(ctx context.Context, victim *corev1.Pod, c corev1.PodCondition) error
	// Delete asks the pod of this UID to end.
	Delete(ctx context.Context, victim *corev1.Pod) error
}

// Evict asks the victims of a plan to end, each with its grace period. Those that are gone already count as done; the error
// names those for which it failed.
func Evict(ctx context.Context, api API, events record.EventRecorder, p *nodeinfo.Pod, plan *Plan) error {
	var errs []error
	for _, v := range plan.Victims {
		if v.DeletionTimestamp != nil {
			continue
		}
		err := api.MarkDisrupted(ctx, v.Pod, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
			Message: fmt.Sprintf("%s: preempting to accommodate a higher priority pod", p.Spec.SchedulerName),
		})
		if err == nil {
			err = api.Delete(ctx, v.Pod)
		}
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			errs = append(errs, fmt.Errorf("evicting %s: %w", v.Key(), err))
		default:
			events.Eventf(v.Pod, corev1.EventTypeNormal, "Preempted", "Preempted by pod %s on node %s", p.UID, plan.Node)
		}
	}
	return errors.Join(errs...)
}
