package podset

import (
	"context"
	"time"

	"k8s.io/client-go/util/workqueue"

	"pilothouse.dev/controller-manager/loop"
)

// Delay holds keys back for a while, so that many changes of one are worked off at once. Its zero form, nil, holds nothing back.
type Delay struct {
	period time.Duration
	queue  workqueue.TypedDelayingInterface[loop.Key]
}

// NewDelay makes one of a period; it is nil when there is none.
func NewDelay(period time.Duration) *Delay {
	if period <= 0 {
		return nil
	}
	return &Delay{period, workqueue.NewTypedDelayingQueue[loop.Key]()}
}

// hold takes keys, or gives them back to be woken at once.
func (d *Delay) hold(keys []loop.Key) []loop.Key {
	if d == nil {
		return keys
	}
	for _, k := range keys {
		d.queue.AddAfter(k, d.period)
	}
	return nil
}

// Feed wakes keys whose time has come, until ctx ends: a controller's Feed, or a part of it.
func (d *Delay) Feed(ctx context.Context, wake func(loop.Key)) error {
	if d == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	defer context.AfterFunc(ctx, d.queue.ShutDown)()
	for {
		k, down := d.queue.Get()
		if down {
			return ctx.Err()
		}
		wake(k)
		d.queue.Done(k)
	}
}
