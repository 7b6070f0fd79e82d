package pods

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/probes"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/pkg/logging"
)

// trap stands for the rooms around a worker; looking at the pod's containers panics as long as it is armed.
type trap struct {
	Objects
	Volumes
	Groups
	Sandboxes
	mu    sync.Mutex
	armed bool
	told  []string
}

func (a *trap) say(format string, args ...any) {
	a.mu.Lock()
	a.told = append(a.told, fmt.Sprintf(format, args...))
	a.mu.Unlock()
}

func (a *trap) List(context.Context) (containers.Listing, error) { return containers.Listing{}, nil }
func (a *trap) Events() <-chan containers.Event                  { return nil }
func (a *trap) ListPod(context.Context, string) (containers.Listing, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.armed {
		panic("a trap")
	}
	return containers.Listing{}, errors.New("nobody is there")
}
func (a *trap) Eventf(_ runtime.Object, _, reason, format string, args ...any) {
	a.say("event %s: %s", reason, fmt.Sprintf(format, args...))
}
func (a *trap) Set(_ *corev1.Pod, st corev1.PodStatus) {
	a.say("status %s %s: %s", st.Phase, st.Reason, st.Message)
}
func (a *trap) Delete(*corev1.Pod)                {}
func (a *trap) Forget(types.UID)                  {}
func (a *trap) Acks() <-chan status.Ack           { return nil }
func (probesTrap) Set(types.UID, []probes.Target) {}
func (probesTrap) Results() <-chan probes.Result  { return nil }

type probesTrap struct{}

// A pod that makes its worker panic is told so; the worker lives, and tries again.
func TestPanicIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &trap{armed: true}
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}}
		w := newWorker(p, &Config{}, &Parts{Observer: a, Status: a, Events: a, Probes: probesTrap{}, Node: func() *corev1.Node { return nil }}, logging.ForTest(t))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.run(ctx); close(done) }()
		synctest.Wait()
		want := []string{"event FailedSync: error syncing pod: internal error: a trap", "status Pending InternalError: internal error: a trap"}
		if got := strings.Join(a.told, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("told\n%s", got)
		}
		w.post(func(*state) { panic("another") })
		synctest.Wait()
		if n := len(a.told); n != 5 || !strings.Contains(a.told[2], "another") {
			t.Errorf("told %q", a.told)
		}
		a.mu.Lock()
		a.armed, a.told = false, nil
		a.mu.Unlock()
		time.Sleep(2 * rest)
		synctest.Wait()
		if len(a.told) != 0 {
			t.Errorf("it goes on: %q", a.told)
		}
		stop()
		<-done
	})
}

// What is left of a pod that nobody can work on is enough to end it.
func TestBarePodEnds(t *testing.T) {
	p := wild(7)
	p.DeletionTimestamp = &metav1.Time{Time: t0}
	plan := Decide(Wish{Pod: bare(p), End: &End{By: t0.Add(time.Second), Delete: true}}, Seen{Now: t0, Records: map[string][]containers.Container{
		"c0": {{ID: "x", Name: "c0", State: containers.Running}}}}, Backoff{})
	if len(plan.Do) != 1 || plan.Do[0].Verb != Stop || plan.Do[0].ID != "x" {
		t.Errorf("plan %+v", plan)
	}
}
