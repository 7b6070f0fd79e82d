package cycle

import (
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/queue"
)

// unschedulable ends a trip that found no node: the pod waits for an event that may help, and its owner is told why.
func (c *Cycle) unschedulable(it *queue.Item, why *refusal, begun time.Time) {
	message := why.String()
	c.log.Debug("unschedulable", zap.String("namespace", it.Pod.Namespace), zap.String("name", it.Pod.Name), zap.String("reason", message))
	c.tell(it.Pod, corev1.PodReasonUnschedulable, message)
	c.Metrics.attempt(unschedulable, time.Since(begun))
	c.Queue.Park(it, why.plugins)
}

// broken ends a trip that failed for a reason that is not the pod's: it is tried again after a while.
func (c *Cycle) broken(it *queue.Item, err error, begun time.Time) {
	c.log.Warn("scheduling failed, trying again", zap.String("namespace", it.Pod.Namespace), zap.String("name", it.Pod.Name), zap.Error(err))
	c.tell(it.Pod, corev1.PodReasonSchedulerError, err.Error())
	c.Metrics.attempt(failed, time.Since(begun))
	c.Queue.Retry(it)
}

// tell writes the reason where users look for it: an event and the pod's condition.
func (c *Cycle) tell(p *nodeinfo.Pod, reason, message string) {
	c.Events.Event(p.Pod, corev1.EventTypeWarning, "FailedScheduling", message)
	c.reporter.report(p, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: message,
	})
}
