package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/statefulset"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/logging"
)

// testStatefulRivals runs a second controller, begun and ended in the middle of things, beside the first: both decide on caches of their
// own, as at a change of leaders.
func testStatefulRivals(w *world, ns string) {
	w.makeSet(ns, stateful(3, withClaims))
	for i := range 6 {
		r := w.rival()
		w.patchSet(ns, fmt.Sprintf(`{"spec":{"replicas":%d,"template":{"spec":{"containers":[{"name":"c","image":"r%d"}]}}}}`, 2+i%3, i))
		w.until("some of the new template", func() error {
			if !strings.Contains(w.setPods(ns), fmt.Sprintf("=r%d", i)) {
				return fmt.Errorf("pods %s", w.setPods(ns))
			}
			return nil
		})
		r.stop()
	}
	w.settled(ns, "web-0=r5 web-1=r5 web-2=r5 web-3=r5")
}

// testStatefulTerm begins a new term over all sets there are: it writes nothing.
func testStatefulTerm(w *world, ns string) {
	w.makeSet(ns, stateful(2, withClaims, func(s *appsv1.StatefulSet) {
		s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: "Delete", WhenScaled: "Delete"}
	}))
	w.settled(ns, "web-0=v1 web-1=v1")
	sets := must(w.kube.AppsV1().StatefulSets("").List(w.Context(), metav1.ListOptions{}))(w)
	r := w.rival()
	defer r.stop()
	w.until("a look at every set", func() error {
		if n := r.looks(); n < len(sets.Items) {
			return fmt.Errorf("%d looks at %d sets", n, len(sets.Items))
		}
		return nil
	})
	r.stop()
	if len(r.writes) > 0 {
		w.Errorf("a new term wrote %v", r.writes)
	}
}

// rival is one more term of the controller, with caches of its own.
type rival struct {
	stop   func()
	reg    *prometheus.Registry
	mu     sync.Mutex
	writes []string // guarded by mu, until it is stopped
}

func (w *world) rival() *rival {
	w.Helper()
	r := &rival{reg: prometheus.NewRegistry()}
	rest := client.Patient(w.cluster.Config("admin", "system:masters"))
	rest.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(q *http.Request) (*http.Response, error) {
			if q.Method != http.MethodGet && !strings.Contains(q.URL.Path, "/events") {
				r.mu.Lock()
				r.writes = append(r.writes, q.Method+" "+q.URL.Path)
				r.mu.Unlock()
			}
			return next.RoundTrip(q)
		})
	})
	clients, err := client.New(rest)
	if err != nil {
		w.Fatal(err)
	}
	line := loop.Line{Name: "statefulset", New: statefulset.New, Workers: 2}
	crew := loop.NewCrew([]loop.Line{line}, clients, nil, events.New(clients.Kube, "rival", ""), r.reg, logging.ForTest(w.T))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := crew.Run(ctx); err != nil && ctx.Err() == nil {
			w.Errorf("the rival ended: %v", err)
		}
	}()
	r.stop = func() { cancel(); <-done }
	w.Cleanup(r.stop)
	return r
}

// looks is how often it has looked at a set.
func (r *rival) looks() int {
	families, err := r.reg.Gather()
	if err != nil {
		return 0
	}
	for _, f := range families {
		if f.GetName() == "workqueue_work_duration_seconds" {
			return int(f.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
	return 0
}
