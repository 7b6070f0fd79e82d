package cycle

import (
	"context"
	"testing"
	"testing/synctest"

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
