package cycle

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/plugins"
	"pilothouse.dev/scheduler/queue"
)

// TestTermAfterTerm loses the lease and gets it again: the second term knows the nodes of the first, though nothing about them
// changed, and still says why a pod does not fit.
func TestTermAfterTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := framework.NewSet(plugins.Table, framework.Parts{})
		s := &stage{api: &fakeAPI{pods: map[string]*corev1.Pod{}}, queue: queue.New(set), cache: cache.New(), events: record.NewFakeRecorder(100)}
		s.api.seen = s.feed
		c := New(Parts{Queue: s.queue, Cache: s.cache, Plugins: set, API: s.api, Events: s.events,
			Metrics: NewMetrics(prometheus.NewRegistry(), "test", s.queue, s.cache),
			Ready:   func(context.Context) error { return nil }}, zap.NewNop())
		s.addNode("n", "2")
		for _, name := range []string{"first", "second"} {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- c.Run(ctx) }()
			s.addPod(name, "1", 0)
			synctest.Wait()
			if got := s.pod(name).Spec.NodeName; got != "n" {
				t.Errorf("the %s term's pod is on node %q", name, got)
			}
			s.addPod("large-"+name, "8", 0)
			synctest.Wait()
			if len(s.pod("large-"+name).Status.Conditions) == 0 {
				t.Errorf("the %s term does not tell why a pod does not fit", name)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("the %s term ended with %v", name, err)
			}
		}
	})
}

// TestTermEndsWhileAllSlotsAreTaken loses the lease while a pod that has been chosen for waits for a slot: the next term has it still.
func TestTermEndsWhileAllSlotsAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := framework.NewSet(plugins.Table, framework.Parts{})
		s := &stage{api: &fakeAPI{pods: map[string]*corev1.Pod{}}, queue: queue.New(set), cache: cache.New(), events: record.NewFakeRecorder(100)}
		s.api.seen = s.feed
		c := New(Parts{Queue: s.queue, Cache: s.cache, Plugins: set, API: s.api, Events: s.events,
			Metrics: NewMetrics(prometheus.NewRegistry(), "test", s.queue, s.cache),
			Ready:   func(context.Context) error { return nil }}, zap.NewNop())
		c.slots = make(chan struct{}, 1)
		back := make(chan struct{})
		s.api.before = func(verb string, _ *corev1.Pod) error { // the API server is away
			<-back
			return nil
		}
		s.addNode("n", "4")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		s.addPod("under-way", "1", 0)
		synctest.Wait()
		s.addPod("waits", "1", 0)
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(back)
		if err := <-done; err != nil {
			t.Errorf("the first term ended with %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- c.Run(ctx) }()
		time.Sleep(maxRetry)
		synctest.Wait()
		for _, name := range []string{"under-way", "waits"} {
			if got := s.pod(name).Spec.NodeName; got != "n" {
				t.Errorf("pod %s is on node %q", name, got)
			}
		}
		if got := s.queue.Counts(); got != (queue.Counts{}) {
			t.Errorf("left in the queue: %+v", got)
		}
		cancel()
		<-done
	})
}

// maxRetry is more than the longest pause between a pod's trips.
const maxRetry = 20 * time.Second

// TestTermEndsWhilePreparing is a pod that waits for its volume when the lease is lost: the next term goes on, and nothing has failed.
func TestTermEndsWhilePreparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{prepare: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		set := framework.NewSet(withKeeper(k), framework.Parts{})
		s := &stage{api: &fakeAPI{pods: map[string]*corev1.Pod{}}, queue: queue.New(set), cache: cache.New(), events: record.NewFakeRecorder(100)}
		s.api.seen = s.feed
		c := New(Parts{Queue: s.queue, Cache: s.cache, Plugins: set, API: s.api, Events: s.events,
			Metrics: NewMetrics(prometheus.NewRegistry(), "test", s.queue, s.cache),
			Ready:   func(context.Context) error { return nil }}, zap.NewNop())
		s.addNode("n", "4")
		s.addPod("p", "1")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the term ended with %v", err)
		}
		if got := s.told(); len(got) > 0 || k.keeps("p") {
			t.Errorf("told %q, kept: %v", got, k.keeps("p"))
		}
		s.check(t, 0, 0, queue.Counts{Backing: 1})
	})
}
