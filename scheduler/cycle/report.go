package cycle

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/scheduler/nodeinfo"
)

// reporter writes conditions of pods that were not scheduled, away from the goroutine that chooses. Of a pod only the newest
// report counts, and never two are under way. A report holds for the version of the pod that it is about: it is never
// written over a binding.
type reporter struct {
	api   API
	log   *zap.Logger
	queue workqueue.TypedRateLimitingInterface[types.UID]

	mu     sync.Mutex
	newest map[types.UID]report // guarded by mu
}

type report struct {
	pod       *corev1.Pod
	condition corev1.PodCondition
	nominated string
}

const (
	reporters     = 8
	reportTimeout = 15 * time.Second
)

func newReporter(api API, log *zap.Logger) *reporter {
	return &reporter{
		api: api, log: log,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](100*time.Millisecond, 10*time.Second)),
		newest: map[types.UID]report{},
	}
}

// report asks for a condition to be written; it does nothing when the pod already says so.
func (r *reporter) report(p *nodeinfo.Pod, c corev1.PodCondition, nominated string) {
	if old := pod.Condition(p.Pod, c.Type); old != nil && old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message &&
		p.Status.NominatedNodeName == nominated {
		r.drop(p.UID)
		return
	}
	r.mu.Lock()
	r.newest[p.UID] = report{p.Pod, c, nominated}
	r.mu.Unlock()
	r.queue.Add(p.UID)
}

// drop takes a report back, if it is not yet under way.
func (r *reporter) drop(uid types.UID) {
	r.mu.Lock()
	delete(r.newest, uid)
	r.mu.Unlock()
}

// run writes reports until ctx ends.
func (r *reporter) run(ctx context.Context) {
	var all sync.WaitGroup
	for range reporters {
		all.Go(func() {
			for {
				uid, down := r.queue.Get()
				if down {
					return
				}
				r.one(ctx, uid)
				r.queue.Done(uid)
			}
		})
	}
	<-ctx.Done()
	r.queue.ShutDown()
	all.Wait()
}

func (r *reporter) one(ctx context.Context, uid types.UID) {
	r.mu.Lock()
	now, ok := r.newest[uid]
	r.mu.Unlock()
	if !ok {
		r.queue.Forget(uid)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	again := r.write(ctx, &now)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch newest, ok := r.newest[uid]; {
	case !ok:
		r.queue.Forget(uid)
	case newest.condition != now.condition || newest.nominated != now.nominated: // replaced meanwhile, and queued again by whoever did
	case again:
		r.newest[uid] = now
		r.queue.AddRateLimited(uid)
	default:
		delete(r.newest, uid)
		r.queue.Forget(uid)
	}
}

// write puts the condition into the pod's status, if the pod still has no node. It says whether to try again, and then leaves
// the pod's present version in the report.
func (r *reporter) write(ctx context.Context, what *report) (again bool) {
	err := r.api.SetCondition(ctx, what.pod, what.condition, what.nominated)
	if apierrors.IsConflict(err) {
		var fresh *corev1.Pod
		if fresh, err = r.api.Get(ctx, &nodeinfo.Pod{Pod: what.pod}); err == nil {
			if fresh.UID != what.pod.UID || pod.Assigned(fresh) || pod.Terminating(fresh) {
				return false
			}
			what.pod = fresh
			return true
		}
	}
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return false
	case ctx.Err() == nil:
		r.log.Warn("writing a pod's condition failed, trying again", zap.String("namespace", what.pod.Namespace),
			zap.String("name", what.pod.Name), zap.Error(err))
	}
	return true
}
