package cycle

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/preempt"
	"pilothouse.dev/scheduler/queue"
)

// evictTimeout bounds the requests of one preemption.
const evictTimeout = 30 * time.Second

// unschedulable ends a trip that found no node: the pod waits for an event that may help, and its owner is told why. If
// evicting lesser pods makes room, that is begun first.
func (c *Cycle) unschedulable(ctx context.Context, it *queue.Item, why *refusal, begun time.Time) {
	message := why.String()
	plan, waits := c.chooser.preempt(it.Pod)
	switch {
	case plan != nil:
		c.Cache.Nominate(it.Pod, plan.Node)
	case !waits:
		c.renounce(it.Pod)
	}
	c.log.Debug("unschedulable", zap.String("namespace", it.Pod.Namespace), zap.String("name", it.Pod.Name), zap.String("reason", message))
	c.tell(it.Pod, corev1.PodReasonUnschedulable, message)
	c.Metrics.attempt(unschedulable, time.Since(begun))
	if plan == nil {
		c.Queue.Park(it, why.plugins)
		return
	}
	c.fly(ctx, func() { c.preempt(ctx, it, why, plan, begun) })
}

// preempt evicts the victims of a plan and ends the trip; their leaving wakes the pod.
func (c *Cycle) preempt(ctx context.Context, it *queue.Item, why *refusal, plan *preempt.Plan, begun time.Time) {
	ctx, cancel := context.WithTimeout(ctx, evictTimeout)
	defer cancel()
	c.log.Info("preempting", zap.String("namespace", it.Pod.Namespace), zap.String("name", it.Pod.Name),
		zap.String("node", plan.Node), zap.Int("victims", len(plan.Victims)))
	c.Metrics.preempted(len(plan.Victims))
	if err := preempt.Evict(ctx, c.API, c.Events, it.Pod, plan); err != nil {
		c.renounce(it.Pod)
		c.broken(it, fmt.Errorf("making room on node %s: %w", plan.Node, err), begun)
		return
	}
	c.Queue.Park(it, why.plugins)
}

// renounce gives up the room that was being made for a pod, which may help others.
func (c *Cycle) renounce(p *nodeinfo.Pod) {
	if c.Cache.Renounce(p.UID) != nil {
		c.Queue.Event(framework.Event{Kind: framework.PodGone, Pod: p})
	}
}

// broken ends a trip that failed for a reason that is not the pod's: it is tried again after a while.
func (c *Cycle) broken(it *queue.Item, err error, begun time.Time) {
	c.log.Warn("scheduling failed, trying again", zap.String("namespace", it.Pod.Namespace), zap.String("name", it.Pod.Name), zap.Error(err))
	c.tell(it.Pod, corev1.PodReasonSchedulerError, err.Error())
	c.Metrics.attempt(failed, time.Since(begun))
	c.Queue.Retry(it)
}

// tell writes the reason where users look for it: an event and the pod's condition; and with it the nomination.
func (c *Cycle) tell(p *nodeinfo.Pod, reason, message string) {
	c.Events.Event(p.Pod, corev1.EventTypeWarning, "FailedScheduling", message)
	c.reporter.report(p, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: message,
	}, c.Cache.Nominated(p.UID))
}
