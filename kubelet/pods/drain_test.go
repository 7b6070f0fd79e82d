package pods

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/logging"
)

// A pod that takes requests is told to end when no new ones come; all others at once.
func TestDrained(t *testing.T) {
	const drain = 800 * time.Millisecond
	selects := func(labels map[string]string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: corev1.ServiceSpec{Selector: labels}}
	}
	web := map[string]string{"app": "web"}
	elsewhere, external := selects(web), selects(web)
	elsewhere.Namespace, external.Spec.Type = "other", corev1.ServiceTypeExternalName
	hook := &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{}}}
	for _, c := range []struct {
		name     string
		services []*corev1.Service
		unready  bool
		grace    int64
		change   func(*corev1.Pod)
		gone     bool
		evicted  bool // by the node, with that grace
		want     time.Duration
	}{
		{name: "served", services: []*corev1.Service{elsewhere, selects(web)}, grace: 30, want: drain},
		{name: "half of a short grace period", services: []*corev1.Service{selects(web)}, grace: 1, want: 500 * time.Millisecond},
		{name: "no service", grace: 30},
		{name: "others' services", services: []*corev1.Service{elsewhere, external, selects(map[string]string{"app": "db"}), selects(nil)}, grace: 30},
		{name: "not ready", services: []*corev1.Service{selects(web)}, unready: true, grace: 30},
		{name: "with a hook", services: []*corev1.Service{selects(web)}, change: func(p *corev1.Pod) { p.Spec.Containers[0].Lifecycle = hook }, grace: 30},
		{name: "deleted by force", services: []*corev1.Service{selects(web)}, grace: 30, gone: true},
		{name: "evicted with time", services: []*corev1.Service{selects(web)}, grace: 30, evicted: true, want: drain},
		{name: "evicted at once", services: []*corev1.Service{selects(web)}, grace: 0, evicted: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &drainStage{stage: &stage{}}
				parts := a.parts()
				parts.Containers, parts.Services = a, func() ([]*corev1.Service, error) { return c.services, nil }
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: web}}
				p.Spec.HostNetwork, p.Spec.RestartPolicy, p.Spec.DNSPolicy = true, corev1.RestartPolicyNever, corev1.DNSDefault
				p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
				if c.change != nil {
					c.change(p)
				}
				root := t.TempDir()
				w := newWorker(p, &Config{Root: root, Logs: root, DNS: DNS{NodeFile: "/nowhere"}, Drain: drain}, parts, logging.ForTest(t))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { w.run(ctx); close(done) }()
				defer func() { cancel(); <-done }()
				synctest.Wait()
				w.post(func(s *state) { s.ready["c-0"] = !c.unready })
				synctest.Wait()
				asked := time.Now()
				ending := w.newest().DeepCopy()
				ending.DeletionTimestamp, ending.DeletionGracePeriodSeconds = &metav1.Time{Time: asked.Add(time.Duration(c.grace) * time.Second)}, &c.grace
				if c.evicted {
					w.post(func(s *state) {
						s.evicted = &End{Phase: corev1.PodFailed, Reason: "Evicted", By: asked.Add(time.Duration(c.grace) * time.Second)}
					})
				} else {
					w.wish(ending, c.gone)
				}
				time.Sleep(time.Duration(c.grace+1) * time.Second)
				synctest.Wait()
				if a.stopped.IsZero() {
					t.Fatalf("it was not told to end: %q", a.noted())
				}
				if got := a.stopped.Sub(asked); got != c.want {
					t.Errorf("told after %s, want %s", got, c.want)
				}
			})
		})
	}
}

// drainStage notes when its container is told to end.
type drainStage struct {
	*stage
	stopped time.Time
}

func (a *drainStage) StopContainer(_ context.Context, id string, _ time.Duration) error {
	if a.stopped.IsZero() {
		a.stopped = time.Now()
	}
	a.become(id, containers.Exited)
	return nil
}

// A time that is shortened while a pod still takes requests counts for these, too.
func TestDrainOfAShortenedEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := map[string]string{"app": "web"}
		a := &drainStage{stage: &stage{}}
		parts := a.parts()
		parts.Containers, parts.Services = a, func() ([]*corev1.Service, error) {
			return []*corev1.Service{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: corev1.ServiceSpec{Selector: web}}}, nil
		}
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: web}}
		p.Spec.HostNetwork, p.Spec.RestartPolicy, p.Spec.DNSPolicy = true, corev1.RestartPolicyNever, corev1.DNSDefault
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
		root := t.TempDir()
		w := newWorker(p, &Config{Root: root, Logs: root, DNS: DNS{NodeFile: "/nowhere"}, Drain: 10 * time.Second}, parts, logging.ForTest(t))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.run(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		synctest.Wait()
		w.post(func(s *state) { s.ready["c-0"] = true })
		synctest.Wait()
		for _, grace := range []int64{30, 2} {
			ending := w.newest().DeepCopy()
			ending.DeletionTimestamp, ending.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Now()}, &grace
			w.wish(ending, false)
			synctest.Wait()
		}
		shortened := time.Now()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := a.stopped.Sub(shortened); a.stopped.IsZero() || got != time.Second {
			t.Errorf("told after %s (%v), want half of the 2s that it was left", got, a.stopped)
		}
	})
}
