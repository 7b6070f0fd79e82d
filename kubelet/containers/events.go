package containers

import (
	"context"
	"fmt"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/events"
	"github.com/containerd/typeurl/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	resubscribeAfter = time.Second
	relistEvery      = 30 * time.Second
	finishesAtOnce   = 16
	maxWaiting       = 4096
)

// queue is between those who notice something and the one reader of Events. It never blocks: when the reader stays away too long, all
// that waits becomes one Relist.
type queue struct{ out chan Event }

func newQueue() *queue {
	return &queue{out: make(chan Event, maxWaiting)}
}

func (q *queue) add(e Event) {
	select {
	case q.out <- e:
		return
	default:
	}
	// Full: throw away what waits, for a relist says it all.
	for {
		select {
		case <-q.out:
			continue
		default:
		}
		break
	}
	select {
	case q.out <- Event{Kind: EventRelist}:
	default: // others were quicker; the reader will see theirs, and the next relist the rest
	}
}

// Events is the one channel of events, for one reader. It is never closed. A reader that stays away gets one Relist for all it missed.
func (r *Runtime) Events() <-chan Event { return r.queue.out }

// Run reads containerd's events until ctx ends, finishing containers that exited. It subscribes again after a broken stream and then
// sends a Relist event. A slow look at everything is the safety net.
func (r *Runtime) Run(ctx context.Context) error {
	ctx = r.scope(ctx)
	for {
		err := r.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.log.Warn("containerd's event stream broke", zap.Error(err))
		select {
		case <-time.After(resubscribeAfter):
		case <-ctx.Done():
			return nil
		}
	}
}

// watch is one subscription. First subscribe, then look: so nothing falls between.
func (r *Runtime) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, broken := r.client.EventService().Subscribe(ctx,
		fmt.Sprintf(`namespace==%q,topic=="/tasks/exit"`, r.cfg.Namespace),
		fmt.Sprintf(`namespace==%q,topic=="/tasks/oom"`, r.cfg.Namespace))
	var work errgroup.Group
	work.SetLimit(finishesAtOnce)
	defer work.Wait()
	if err := r.finishAll(ctx); err != nil {
		return err
	}
	r.queue.add(Event{Kind: EventRelist})
	tick := time.NewTicker(relistEvery)
	defer tick.Stop()
	for {
		select {
		case env := <-stream:
			if err := r.handle(ctx, env, &work); err != nil {
				return err
			}
		case err := <-broken:
			return fmt.Errorf("reading events: %w", err)
		case <-tick.C:
			if err := r.finishAll(ctx); err != nil {
				return err
			}
		}
	}
}

func (r *Runtime) handle(ctx context.Context, env *events.Envelope, work *errgroup.Group) error {
	if env == nil || env.Event == nil {
		return nil
	}
	decoded, err := typeurl.UnmarshalAny(env.Event)
	if err != nil {
		return fmt.Errorf("decoding event %s: %w", env.Topic, err)
	}
	switch e := decoded.(type) {
	case *eventtypes.TaskExit:
		if e.ID != e.ContainerID {
			return nil // a command run by Exec, which waits for it itself
		}
		if rec, err := r.client.ContainerService().Get(ctx, e.ContainerID); err == nil && rec.Labels[labelKind] == kindPause {
			r.queue.add(Event{Kind: EventExited, PodUID: rec.Labels[labelPodUID], ContainerID: e.ContainerID})
			return nil
		}
		work.Go(func() error {
			if err := r.finish(ctx, e.ContainerID, &exit{at: e.ExitedAt.AsTime(), code: int(e.ExitStatus)}); err != nil && ctx.Err() == nil {
				r.log.Error("finishing container", zap.String("container", e.ContainerID), zap.Error(err))
			}
			return nil
		})
	case *eventtypes.TaskOOM:
		rec, err := r.record(ctx, e.ContainerID)
		if err != nil {
			return nil // gone already; its exit says the rest
		}
		r.queue.add(Event{Kind: EventOOM, PodUID: rec.Labels[labelPodUID], ContainerID: e.ContainerID})
	}
	return nil
}

// finishAll finishes what ended unseen.
func (r *Runtime) finishAll(ctx context.Context) error {
	records, err := r.client.ContainerService().List(ctx, filterKind(kindContainer))
	if err != nil {
		return fmt.Errorf("listing records: %w", err)
	}
	processes, err := r.tasks(ctx)
	if err != nil {
		return err
	}
	for _, rec := range records {
		p := processes[rec.ID]
		lost := p == nil && containerFrom(rec.ID, rec.Labels, rec.CreatedAt).State == Running
		ended := p != nil && p.Status == task.Status_STOPPED
		if !lost && !ended {
			continue
		}
		if err := r.finish(ctx, rec.ID, nil); err != nil {
			r.log.Error("finishing container", zap.String("container", rec.ID), zap.Error(err))
		}
	}
	return nil
}
