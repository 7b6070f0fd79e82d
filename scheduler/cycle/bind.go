package cycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/queue"
)

const (
	// bindTimeout bounds one binding, from permit to the API's answer, but for what has to come true before it.
	bindTimeout = 30 * time.Second
	// prepareTimeout bounds what is to come true before a binding: a volume may have to be made first.
	prepareTimeout = 10 * time.Minute
)

// errNodeGone ends a binding to a node that was deleted after it was chosen.
var errNodeGone = errors.New("the node was deleted after it had been chosen")

// bind takes an assumed pod to its node and ends its trip. It runs in a goroutine of its own.
func (c *Cycle) bind(ctx context.Context, it *queue.Item, node string, held framework.Held, begun time.Time) {
	p := it.Pod
	err := c.prepareAndBind(ctx, it, node, held)
	if err != nil {
		switch bound, settled := c.settle(ctx, p, node, err); {
		case bound: // perhaps by somebody else, before all was prepared
			c.release(p, held)
			err = nil
		case settled: // gone, or on another node: the feed says the rest
			c.forget(p, held)
			c.Queue.Done(it)
			return
		}
	}
	if err != nil {
		c.forget(p, held)
		if ctx.Err() != nil { // the term has ended, which is nobody's failure: the next one goes on
			c.Queue.Retry(it)
			return
		}
		c.broken(it, fmt.Errorf("binding to node %s: %w", node, err), begun)
		return
	}
	c.Queue.Done(it)
	c.Metrics.attempt(scheduled, time.Since(begun))
	c.Metrics.placed(it.Attempts, time.Since(it.Since))
	c.Events.Eventf(p.Pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s to %s", p.Key(), node)
	c.log.Debug("scheduled", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.String("node", node))
}

func (c *Cycle) prepareAndBind(ctx context.Context, it *queue.Item, node string, held framework.Held) error {
	p := it.Pod
	soon, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	if st := c.Plugins.Permit(soon, p, node); !st.OK() {
		return fmt.Errorf("permission of %s: %s", st.Plugin, st.Message())
	}
	if held != 0 {
		if err := c.prepare(ctx, it, node, held); err != nil {
			return err
		}
		soon, cancel = context.WithTimeout(ctx, bindTimeout)
		defer cancel()
	}
	if !c.Cache.HasNode(node) {
		return errNodeGone
	}
	return c.API.Bind(soon, p, node)
}

// prepare makes true what is held for a pod, until the pod is gone.
func (c *Cycle) prepare(ctx context.Context, it *queue.Item, node string, held framework.Held) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	gone, ended := c.Queue.Gone(it), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	st := c.Plugins.PreBind(ctx, held, it.Pod, node)
	cancel()
	<-ended
	if !st.OK() {
		return fmt.Errorf("preparing with %s: %s", st.Plugin, st.Message())
	}
	return nil
}

// settle finds out what became of a pod whose binding failed: whether it is bound to this node after all (the answer was
// lost, or another request of ours won), or the matter is settled otherwise (the pod is gone, ends, or is bound elsewhere).
// Neither means that it still wants a node, as far as can be told.
func (c *Cycle) settle(ctx context.Context, p *nodeinfo.Pod, node string, err error) (bound, settled bool) {
	switch {
	case apierrors.IsNotFound(err):
		return false, true
	case errors.Is(err, errNodeGone), apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		return false, false // certainly not bound by us
	}
	// A conflict, or no answer: the pod itself knows. Its own context, since the binding's may be what ran out.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	now, err := c.API.Get(ctx, p)
	switch {
	case apierrors.IsNotFound(err):
		return false, true
	case err != nil:
		return false, false
	case now.UID != p.UID || now.DeletionTimestamp != nil && now.Spec.NodeName == "":
		return false, true
	case now.Spec.NodeName == node:
		return true, true
	}
	return false, now.Spec.NodeName != ""
}

// release gives back what plugins hold for the pod, which may help others: that it is gone, if it is, they were told before.
func (c *Cycle) release(p *nodeinfo.Pod, held framework.Held) {
	if held != 0 {
		c.Plugins.Unreserve(held, p)
		c.Queue.Event(framework.Event{Kind: framework.PodGone, Pod: p})
	}
}

// forget gives back what the pod had been promised, which may help others.
func (c *Cycle) forget(p *nodeinfo.Pod, held framework.Held) {
	if c.Cache.Forget(p.UID) && held == 0 {
		c.Queue.Event(framework.Event{Kind: framework.PodGone, Pod: p})
	}
	c.release(p, held)
}
