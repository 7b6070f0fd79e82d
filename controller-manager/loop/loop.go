// Package loop is what every controller is run by: one queue of keys, workers, retry with growing pauses, «again after», and
// metrics under the names Kubernetes users know. A controller says as data what wakes it (Watch) and brings one function that
// brings one key from what is to what should be (Reconcile). It is called by main through the table in controllers.go.
//
// What always holds: one key is never worked on twice at once; a key that was woken while being worked on runs again; every
// cache a controller named in Watches or Reads is filled before its first key runs; an error puts the key back with a growing
// pause; a panic ends the process. Objects from listers are shared and never changed: copy first.
package loop

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"pilothouse.dev/pkg/client"
)

// Tools is all a controller gets.
type Tools struct {
	Clients   *client.Clients // as the controller: what it writes, and reads live, is done with its own rights
	Watching  *client.Clients // as the controller manager: for informers, which all share
	Informers informers.SharedInformerFactory
	Recorder  record.EventRecorder
	Log       *zap.Logger // named by the controller
	Metrics   *Families   // of the controller's own, beside those of its queue
}

// Key names what to reconcile; Namespace is empty for what has none.
type Key = cache.ObjectName

// KeyOf is the key of an object.
func KeyOf(o metav1.Object) Key { return Key{Namespace: o.GetNamespace(), Name: o.GetName()} }

// Controller is one line of the table, made by a package's New.
type Controller struct {
	// Watches say which objects wake which keys.
	Watches []Watch
	// Reads are resources looked up in caches without waking anything.
	Reads []string
	// Reconcile brings one key to what it should be. It returns after how long to look again (0: when woken), and an error to
	// be tried again with a growing pause.
	Reconcile func(ctx context.Context, key Key) (again time.Duration, err error)
	// Feed, if set, runs beside the workers and wakes keys from sources that are not Watches. It returns when ctx ends.
	Feed func(ctx context.Context, wake func(Key)) error
	// Feeds says what Feed wakes by, for the graph.
	Feeds string
}

// Pauses after the first and the worst of a row of failures of one key.
const (
	firstPause = 5 * time.Millisecond
	worstPause = 60 * time.Second
)

// Loop runs one controller.
type Loop struct {
	name    string
	c       Controller
	tools   Tools
	workers int
	queue   workqueue.TypedRateLimitingInterface[Key]
	synced  []cache.InformerSynced
	own     []cache.SharedIndexInformer     // narrow ones, which the factory does not start
	ready   func(ctx context.Context) error // whether the controller's identity can be used yet; nil: it can
	known   atomic.Bool                     // that it can
}

// New prepares a controller; its informers exist after this, so that the factory can be started. Nothing runs yet.
func New(name string, c Controller, t Tools, workers int, m *Metrics) (*Loop, error) {
	l := &Loop{name: name, c: c, tools: t, workers: workers}
	l.known.Store(true)
	l.queue = workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[Key](firstPause, worstPause),
		workqueue.TypedRateLimitingQueueConfig[Key]{Name: name, MetricsProvider: m.provider()},
	)
	for _, resource := range c.Reads {
		inf, err := informer(t.Informers, resource)
		if err != nil {
			return nil, fmt.Errorf("controller %s: %w", name, err)
		}
		l.synced = append(l.synced, inf.HasSynced)
	}
	for _, w := range c.Watches {
		inf, err := w.Only, error(nil)
		if inf != nil {
			l.own = append(l.own, inf)
		} else if inf, err = informer(t.Informers, w.Resource); err != nil {
			return nil, fmt.Errorf("controller %s: %w", name, err)
		}
		reg, err := inf.AddEventHandler(w.handler(l.queue.Add))
		if err != nil {
			return nil, fmt.Errorf("controller %s: watching %s: %w", name, w.Resource, err)
		}
		l.synced = append(l.synced, reg.HasSynced)
	}
	return l, nil
}

// Await makes Run wait until ready says nil, which it is asked until it does. It is called before Run.
func (l *Loop) Await(ready func(context.Context) error) {
	l.ready = ready
	l.known.Store(ready == nil)
}

// Synced says whether all caches are filled.
func (l *Loop) Synced() bool {
	for _, s := range l.synced {
		if !s() {
			return false
		}
	}
	return true
}

// Run works until ctx ends and returns when every worker has.
func (l *Loop) Run(ctx context.Context) error {
	defer l.queue.ShutDown()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, inf := range l.own {
		wg.Go(func() { inf.RunWithContext(ctx) })
	}
	if !l.identified(ctx) || !cache.WaitForCacheSync(ctx.Done(), l.synced...) {
		return ctx.Err()
	}
	for range l.workers {
		wg.Go(func() {
			for l.next(ctx) {
			}
		})
	}
	var err error
	if l.c.Feed != nil {
		if err = l.c.Feed(ctx, l.queue.Add); err == nil || ctx.Err() != nil {
			err = ctx.Err()
		}
	} else {
		<-ctx.Done()
		err = ctx.Err()
	}
	l.queue.ShutDown()
	return err
}

// Pauses between questions for an identity.
const (
	firstAsk = 100 * time.Millisecond
	worstAsk = 5 * time.Second
)

// identified waits until the controller's identity can be used, and says what it waits for.
func (l *Loop) identified(ctx context.Context) bool {
	for pause := firstAsk; !l.known.Load(); pause = min(2*pause, worstAsk) {
		err := l.ready(ctx)
		if err == nil {
			l.known.Store(true)
			break
		}
		if ctx.Err() != nil {
			return false
		}
		l.tools.Log.Warn("waiting for the controller's identity", zap.Error(err))
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
	return true
}

func (l *Loop) next(ctx context.Context) bool {
	key, down := l.queue.Get()
	if down || ctx.Err() != nil {
		return false
	}
	defer l.queue.Done(key)
	again, err := l.c.Reconcile(ctx, key)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		l.report(key, err)
		l.queue.AddRateLimited(key)
	default:
		l.queue.Forget(key)
		if again > 0 {
			l.queue.AddAfter(key, again)
		}
	}
	return true
}

// report logs a failed key once: what mends itself by looking again is nobody's concern.
func (l *Loop) report(key Key, err error) {
	fields := []zap.Field{zap.String("namespace", key.Namespace), zap.String("name", key.Name),
		zap.Int("retries", l.queue.NumRequeues(key)), zap.Error(err)}
	if passing(err) {
		l.tools.Log.Debug("trying again", fields...)
		return
	}
	l.tools.Log.Warn("reconciling, trying again", fields...)
}
