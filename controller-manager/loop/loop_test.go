package loop

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// start runs a controller that is woken through the returned function only, in virtual time.
func start(t *testing.T, reconcile func(context.Context, Key) (time.Duration, error)) (wake func(Key), l *Loop, m *Metrics) {
	t.Helper()
	m = NewMetrics(prometheus.NewRegistry())
	woken := make(chan func(Key), 1)
	l, err := New("test", Controller{
		Reconcile: reconcile,
		Feed: func(ctx context.Context, wake func(Key)) error {
			woken <- wake
			<-ctx.Done()
			return ctx.Err()
		},
	}, Tools{Log: zap.NewNop()}, 2, m)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	return <-woken, l, m
}

func TestRetriesWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		wake, _, m := start(t, func(context.Context, Key) (time.Duration, error) {
			at = append(at, time.Since(began))
			if len(at) < 4 {
				return 0, errors.New("not yet")
			}
			return 0, nil
		})
		wake(Key{Name: "a"})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(at) != 4 {
			t.Fatalf("ran %d times, want 4", len(at))
		}
		for i := 2; i < 4; i++ {
			if now, before := at[i]-at[i-1], at[i-1]-at[i-2]; now != 2*before {
				t.Errorf("pause %d is %v after %v, want the double", i, now, before)
			}
		}
		if n := testutil.ToFloat64(m.retries.WithLabelValues("test")); n != 3 {
			t.Errorf("workqueue_retries_total is %v, want 3", n)
		}
	})
}

func TestAgainAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		wake, _, _ := start(t, func(context.Context, Key) (time.Duration, error) {
			runs++
			return 10 * time.Second, nil
		})
		wake(Key{Name: "a"})
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if runs != 4 {
			t.Errorf("ran %d times in 35 s, want 4", runs)
		}
	})
}

func TestOneKeyNeverTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, runs := 0, 0
		wake, _, _ := start(t, func(context.Context, Key) (time.Duration, error) {
			running++
			runs++
			if running > 1 {
				t.Error("two workers on one key")
			}
			time.Sleep(time.Second)
			running--
			return 0, nil
		})
		for range 5 {
			wake(Key{Name: "a"})
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if runs != 2 {
			t.Errorf("ran %d times, want 2: the first, and once more for all that came meanwhile", runs)
		}
	})
}

func TestWakers(t *testing.T) {
	owned := func(kind, name string) *corev1.Pod {
		yes := true
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p",
			OwnerReferences: []metav1.OwnerReference{{Kind: kind, Name: name, Controller: &yes}}}}
	}
	for name, tc := range map[string]struct {
		w    Waker
		e    Event
		want []Key
	}{
		"itself when it appears":     {Self, Event{New: owned("ReplicaSet", "a")}, []Key{{Namespace: "ns", Name: "p"}}},
		"itself when it goes":        {Self, Event{Old: owned("ReplicaSet", "a")}, []Key{{Namespace: "ns", Name: "p"}}},
		"its owner once":             {Owner("ReplicaSet"), Event{owned("ReplicaSet", "a"), owned("ReplicaSet", "a")}, []Key{{Namespace: "ns", Name: "a"}}},
		"the former owner too":       {Owner("ReplicaSet"), Event{owned("ReplicaSet", "a"), owned("ReplicaSet", "b")}, []Key{{Namespace: "ns", Name: "a"}, {Namespace: "ns", Name: "b"}}},
		"not an owner of other kind": {Owner("ReplicaSet"), Event{New: owned("Job", "a")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.w.Keys(tc.e)
			if len(got) != len(tc.want) {
				t.Fatalf("woke %v, want %v", got, tc.want)
			}
			for i := range got {
				if got[i] != tc.want[i] {
					t.Errorf("woke %v, want %v", got, tc.want)
				}
			}
		})
	}
}
