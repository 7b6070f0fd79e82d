package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// stub is a sink that takes events when it is let.
type stub struct {
	gate   chan error // an answer a write; closed: all are taken
	mu     sync.Mutex
	writes [][]string // guarded by mu
	closed bool       // guarded by mu
}

func (s *stub) write(ctx context.Context, events [][]byte) (int, error) {
	if s.gate != nil {
		select {
		case err := <-s.gate:
			if err != nil {
				return 0, err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, e := range events {
		ids = append(ids, string(e))
	}
	s.writes = append(s.writes, ids)
	return len(events), nil
}

func (s *stub) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *stub) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.writes...)
}

func (s *stub) sizes() (n []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writes {
		n = append(n, len(w))
	}
	return n
}

func event(id string) *auditv1.Event { return &auditv1.Event{AuditID: types.UID(id)} }

func idOf(e *auditv1.Event) ([]byte, error) { return []byte(e.AuditID), nil }

// running is a queue whose run is under way; stop ends it and waits.
func running(t *testing.T, b Buffering, to sink, drain time.Duration) (q *queue, logs *observer.ObservedLogs, stop func()) {
	core, logs := observer.New(zap.InfoLevel)
	q = newQueue("log", b, idOf, to, newMetrics(prometheus.NewRegistry()), zap.New(core))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { q.run(ctx, drain); close(done) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return q, logs, stop
}

func (q *queue) lostBy(plugin string) float64 {
	return testutil.ToFloat64(q.metrics.errors.WithLabelValues(plugin))
}

// A sink that hangs costs events once its buffer is full, and no request waits for it.
func TestBatchNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{gate: make(chan error)}
		q, logs, stop := running(t, Buffering{Mode: Batch, Size: 10, Max: 1}, s, time.Second)
		start := time.Now()
		if err := q.put(t.Context(), event("0")); err != nil {
			t.Error(err)
		}
		synctest.Wait() // the sink hangs with it
		for i := range 100 {
			if err := q.put(t.Context(), event(fmt.Sprint(i+1))); err != nil {
				t.Error(err)
			}
		}
		if time.Since(start) != 0 {
			t.Errorf("requests waited for %v", time.Since(start))
		}
		if n := q.lostBy("buffered"); n != 90 {
			t.Errorf("%v events are counted as lost, 90 are", n)
		}
		if n := logs.FilterMessage("audit events are lost").Len(); n != 1 {
			t.Errorf("%d log lines", n)
		}
		close(s.gate) // it works again
		synctest.Wait()
		if got := s.all(); len(got) != 11 || got[0] != "0" || got[10] != "10" {
			t.Errorf("written: %v", got)
		}
		stop()
	})
}

func TestBlockingWaitsUntilTheSinkIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{gate: make(chan error)}
		q, _, stop := running(t, Buffering{Mode: Blocking, Size: 10, Max: 1}, s, time.Second)
		go func() { time.Sleep(patience / 2); s.gate <- nil }()
		start := time.Now()
		_ = q.put(t.Context(), event("slow"))
		if took := time.Since(start); took != patience/2 || len(s.all()) != 1 {
			t.Errorf("after %v: %v", took, s.all())
		}
		start = time.Now()
		_ = q.put(t.Context(), event("stuck"))
		if took := time.Since(start); took != patience {
			t.Errorf("the first waited for %v", took)
		}
		time.Sleep(time.Millisecond)
		start = time.Now()
		for range 20 {
			_ = q.put(t.Context(), event("late"))
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("later ones waited for %v", took)
		}
		if n := q.lostBy("buffered"); n != 10 {
			t.Errorf("%v lost", n)
		}
		go func() { s.gate <- errors.New("no space left on device") }()
		synctest.Wait()
		if n := q.lostBy("log"); n != 1 {
			t.Errorf("%v lost by the failed write", n)
		}
		close(s.gate)
		synctest.Wait()
		if got := s.all(); len(got) != 11 {
			t.Errorf("written: %v", got)
		}
		stop()
	})
}

func TestStrictRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{gate: make(chan error)}
		q, _, stop := running(t, Buffering{Mode: Strict, Size: 10, Max: 1}, s, time.Second)
		full := errors.New("no space left on device")
		go func() { s.gate <- full }()
		if err := q.put(t.Context(), event("refused")); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
		go func() { time.Sleep(time.Minute); s.gate <- nil }()
		if err := q.put(t.Context(), event("waited")); err != nil || !slices.Equal(s.all(), []string{"waited"}) {
			t.Errorf("got %v, %v", err, s.all())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.put(ctx, event("too long")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		close(s.gate)
		stop()
		if err := q.put(t.Context(), event("after")); !errors.Is(err, errClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// What waits at the same time is written at once.
func TestBlockingWritesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{gate: make(chan error)}
		q, _, stop := running(t, Buffering{Mode: Blocking, Size: 1000, Max: 1}, s, time.Second)
		for i := range 100 {
			go func() { _ = q.put(t.Context(), event(fmt.Sprint(i))) }()
		}
		synctest.Wait()
		close(s.gate)
		synctest.Wait()
		if n := s.sizes(); len(n) > 2 || len(s.all()) != 100 {
			t.Errorf("%d writes of %d events", len(n), len(s.all()))
		}
		stop()
	})
}

func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{}
		q, _, stop := running(t, Buffering{Mode: Batch, Size: 1000, Max: 3, Wait: 30 * time.Second}, s, time.Second)
		sizes := func(want ...int) {
			t.Helper()
			synctest.Wait()
			if got := s.sizes(); !slices.Equal(got, want) {
				t.Errorf("at %v: batches of %v, want %v", time.Now(), got, want)
			}
		}
		put := func(n int) {
			for range n {
				_ = q.put(t.Context(), event("x"))
			}
		}
		put(2)
		sizes()
		time.Sleep(30 * time.Second)
		sizes(2)
		put(3)
		sizes(2, 3)
		put(1)
		stop() // what is buffered goes out
		sizes(2, 3, 1)
		if !s.closed {
			t.Error("the sink is open")
		}
	})
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{}
		q, _, stop := running(t, Buffering{Mode: Batch, Size: 1000, Max: 1, Throttle: true, QPS: 1, Burst: 2}, s, time.Second)
		for range 5 {
			_ = q.put(t.Context(), event("x"))
		}
		synctest.Wait()
		if n := len(s.all()); n > 2 {
			t.Errorf("%d at once", n)
		}
		time.Sleep(10 * time.Second)
		if n := len(s.all()); n != 5 {
			t.Errorf("%d after a while", n)
		}
		stop()
	})
}

// A dead sink does not hold up the end.
func TestEndOfADeadSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{gate: make(chan error)}
		q, _, stop := running(t, Buffering{Mode: Batch, Size: 1000, Max: 1}, s, 5*time.Second)
		for range 5 {
			_ = q.put(t.Context(), event("x"))
		}
		synctest.Wait()
		start := time.Now()
		stop()
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if n := q.lostBy("buffered") + q.lostBy("log"); n != 5 {
			t.Errorf("%v of 5 are counted as lost", n)
		}
	})
}

func TestTruncation(t *testing.T) {
	e := event("x")
	e.RequestObject = &runtime.Unknown{Raw: []byte(`"` + strings.Repeat("x", 5000) + `"`)}
	e.Annotations = map[string]string{"a": "b"}
	for _, c := range []struct {
		name string
		t    Truncation
		want func(b []byte, err error) bool
	}{
		{"off", Truncation{MaxEvent: 10}, func(b []byte, err error) bool { return err == nil && len(b) > 5000 }},
		{"room", Truncation{Enabled: true, MaxEvent: 10000}, func(b []byte, err error) bool { return err == nil && len(b) > 5000 }},
		{"short", Truncation{Enabled: true, MaxEvent: 1000}, func(b []byte, err error) bool {
			var got auditv1.Event
			return err == nil && len(b) <= 1000 && json.Unmarshal(b, &got) == nil && got.RequestObject == nil &&
				got.Annotations["audit.k8s.io/truncated"] == "true" && got.Annotations["a"] == "b"
		}},
		{"too short", Truncation{Enabled: true, MaxEvent: 10}, func(_ []byte, err error) bool { return err != nil }},
	} {
		if b, err := c.t.encode(e); !c.want(b, err) {
			t.Errorf("%s: %.300s, %v", c.name, b, err)
		}
	}
	if e.RequestObject == nil || len(e.Annotations) != 1 {
		t.Error("the event was changed")
	}
}

// The disk is full: events are lost and counted, and the server goes on.
func TestFullDevice(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	cfg := Config{PolicyFile: filepath.Join(t.TempDir(), "policy"), Drain: time.Second}
	cfg.Log = FileConfig{Path: "/dev/full", Format: JSON, Buffering: Buffering{Version: Version, Mode: Blocking, Size: 100, Max: 1}}
	if err := os.WriteFile(cfg.PolicyFile, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	trail, err := New(cfg, prometheus.NewRegistry(), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- trail.Run(ctx) }()
	for range 50 {
		if err := trail.send(ctx, event("x")); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(trail.metrics.errors.WithLabelValues("log")); n != 50 {
		t.Errorf("%v of 50 are counted as lost", n)
	}
	if n := testutil.ToFloat64(trail.metrics.events); n != 50 {
		t.Errorf("%v events", n)
	}
	told := logs.FilterMessage("audit events are lost").All()
	if len(told) == 0 || len(told) > 2 || !strings.Contains(fmt.Sprint(told[0].ContextMap()["error"]), "no space left") {
		t.Errorf("logged: %v", told)
	}
}
