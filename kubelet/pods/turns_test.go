package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/logging"
)

// stage is all rooms around a worker, with containers that only stand in a list. It writes down what happens, in order.
type stage struct {
	Containers
	Groups
	Volumes
	Objects

	mu      sync.Mutex
	diary   []string
	listing containers.Listing
	making  func() error // what CreateSandbox answers
	heard   func()       // is called when a status is set
}

func (a *stage) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.diary = append(a.diary, fmt.Sprintf(format, args...))
}

func (a *stage) noted() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.diary)
}

func (a *stage) count(what string) (n int) {
	for _, line := range a.noted() {
		if strings.HasPrefix(line, what) {
			n++
		}
	}
	return n
}

func (a *stage) List(context.Context) (containers.Listing, error) { return a.listing, nil }
func (a *stage) Events() <-chan containers.Event                  { return nil }
func (a *stage) ListPod(context.Context, string) (containers.Listing, error) {
	a.note("list")
	a.mu.Lock()
	defer a.mu.Unlock()
	return containers.Listing{Sandboxes: slices.Clone(a.listing.Sandboxes), Containers: slices.Clone(a.listing.Containers)}, nil
}
func (a *stage) CreateSandbox(context.Context, containers.SandboxSpec) (containers.Sandbox, error) {
	a.note("sandbox")
	if a.making != nil {
		if err := a.making(); err != nil {
			return containers.Sandbox{}, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	box := containers.Sandbox{ID: "box", Ready: true, HostNetwork: true}
	a.listing.Sandboxes = append(a.listing.Sandboxes, box)
	return box, nil
}
func (a *stage) RemoveSandbox(context.Context, string) error { return nil }
func (a *stage) CreateContainer(_ context.Context, spec containers.ContainerSpec) (string, error) {
	a.note("create")
	a.mu.Lock()
	defer a.mu.Unlock()
	id := fmt.Sprintf("%s-%d", spec.Name, spec.Attempt)
	a.listing.Containers = append(a.listing.Containers, containers.Container{ID: id, Name: spec.Name, Attempt: spec.Attempt, SandboxID: "box", State: containers.Created, Created: time.Now(), Labels: spec.Labels})
	return id, nil
}
func (a *stage) StartContainer(_ context.Context, id string) error {
	a.note("start")
	a.become(id, containers.Running)
	return nil
}
func (a *stage) become(id string, state containers.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.listing.Containers {
		if c := &a.listing.Containers[i]; c.ID == id {
			if c.State = state; state == containers.Running {
				c.Started = time.Now()
			} else {
				c.Finished = time.Now()
			}
		}
	}
}
func (a *stage) Ensure(context.Context, images.PullSpec) (images.Image, error) {
	return images.Image{ID: "i", Name: "i"}, nil
}
func (a *stage) CreatePod(corev1.PodQOSClass, string, cgroups.Resources) (string, error) {
	return "/pod", nil
}
func (a *stage) RemovePod(context.Context, string) error { return nil }
func (a *stage) Setup(context.Context, *corev1.Pod, resolve.Facts) (map[string]volumes.Volume, error) {
	return map[string]volumes.Volume{}, nil
}
func (a *stage) Teardown(context.Context, types.UID) error { return nil }
func (a *stage) Drop(types.UID)                            {}
func (a *stage) Eventf(_ runtime.Object, _, reason, format string, args ...any) {
	a.note("event %s: %s", reason, fmt.Sprintf(format, args...))
}
func (a *stage) Set(_ *corev1.Pod, st corev1.PodStatus) {
	a.note("status %s", st.Phase)
	if a.heard != nil {
		a.heard()
	}
}
func (a *stage) Delete(*corev1.Pod)                         {}
func (a *stage) Forget(types.UID)                           {}
func (a *stage) Acks() <-chan status.Ack                    { return nil }
func (a *stage) Admit(*corev1.Pod) (reason, message string) { return "", "" }
func (a *stage) Found(containers.Listing)                   {}
func (a *stage) Release(types.UID)                          { a.note("release") }
func (a *stage) Grant(context.Context, *corev1.Pod, *corev1.Container, *containers.ContainerSpec) error {
	return nil
}

// play has a worker work on a pod of one container that is not started again; stop ends it.
func (a *stage) play(t *testing.T) (w *worker, stop func()) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}}
	p.Spec.HostNetwork, p.Spec.RestartPolicy, p.Spec.DNSPolicy = true, corev1.RestartPolicyNever, corev1.DNSDefault
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	root := t.TempDir()
	cfg := &Config{Root: root, Logs: root, DNS: DNS{NodeFile: "/nowhere"}, Backoff: Backoff{First: time.Second, Max: time.Minute, Calm: time.Minute}}
	w = newWorker(p, cfg, a.parts(), logging.ForTest(t))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.run(ctx); close(done) }()
	return w, func() { cancel(); <-done }
}

func (a *stage) parts() *Parts {
	return &Parts{Sandboxes: a, Containers: a, Observer: a, Images: a, Groups: a, Volumes: a, Objects: nothing{a}, Probes: probesTrap{}, Status: a, Events: a,
		Grants: []Grants{a}, Node: func() *corev1.Node { return nil }, Services: func() ([]*corev1.Service, error) { return nil, nil }}
}

// Between the wish and the start of its container a pod is looked at twice: when it is taken in, and when its sandbox is there.
func TestStartLooksTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &stage{}
		_, stop := a.play(t)
		synctest.Wait()
		stop()
		told := a.noted()
		i := slices.Index(told, "start")
		if i < 0 {
			t.Fatalf("it was not started: %q", told)
		}
		a.diary = told[:i]
		if n := a.count("list"); n != 2 {
			t.Errorf("looked %d times: %q", n, told[:i])
		}
	})
}

// Who hears that a pod has ended may ask at once for what it had.
func TestReleasedBeforeTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &stage{}
		w, stop := a.play(t)
		synctest.Wait()
		a.become("c-0", containers.Exited)
		w.post(func(s *state) { s.dirty = true })
		synctest.Wait()
		stop()
		told := a.noted()
		freed, known := slices.Index(told, "release"), slices.Index(told, "status Succeeded")
		if freed < 0 || known < 0 || freed > known {
			t.Errorf("released at %d, told at %d: %q", freed, known, told)
		}
		if n := a.count("release"); n != 1 {
			t.Errorf("released %d times", n)
		}
	})
}

// An answer of the API comes before the watch shows what was written, and maybe long before: it is no reason to say the same again, to which the
// next answer comes.
func TestToldOnceWhileTheWatchIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &stage{}
		w, stop := a.play(t)
		synctest.Wait()
		before := a.count("status")
		echoes := 0
		a.heard = func() {
			if echoes++; echoes < 100 {
				go w.post(func(s *state) { s.acked = corev1.PodRunning })
			}
		}
		w.post(func(s *state) { s.acked = corev1.PodPending })
		synctest.Wait()
		if n := a.count("status") - before; n != 0 {
			t.Errorf("told %d times more", n)
		}
		late := w.newest().DeepCopy() // what somebody else says is answered
		w.wish(late, false)
		synctest.Wait()
		if n := a.count("status") - before; n != 1 {
			t.Errorf("told %d times more after a change", n)
		}
		stop()
	})
}

// A call that others cancelled has failed, and is not made again at once.
func TestCancelledByOthersWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &stage{}
		tries := 0
		a.making = func() error {
			if tries++; tries > 50 {
				return errors.New("that is enough")
			}
			return fmt.Errorf("the runtime is going down: %w", context.Canceled)
		}
		_, stop := a.play(t)
		synctest.Wait()
		stop()
		if tries != 1 || a.count("event FailedCreatePodSandBox") != 1 {
			t.Errorf("%d tries at once: %q", tries, a.noted())
		}
	})
}

// What was known of containers goes with their records: a pod may crash for years.
func TestOldContainersAreForgotten(t *testing.T) {
	a := &stage{}
	w := newWorker(&corev1.Pod{}, &Config{}, a.parts(), logging.ForTest(t))
	s := newState(w.pod)
	w.take(s)
	a.listing.Containers = []containers.Container{{ID: "now", Name: "c", State: containers.Exited}}
	for _, id := range []string{"now", "old"} {
		s.notes[id], s.ready[id], s.seen.Started[id], s.seen.Hooked[id], s.seen.Replaced[id], s.seen.Sick[id] = "x", true, true, true, true, Sickness{}
	}
	if err := w.observe(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"notes": len(s.notes), "ready": len(s.ready), "started": len(s.seen.Started), "hooked": len(s.seen.Hooked), "replaced": len(s.seen.Replaced), "sick": len(s.seen.Sick)} {
		if n != 1 {
			t.Errorf("%s are kept of %d containers", name, n)
		}
	}
}

// A stop that fails is tried again after a while, not at once; one that has not been tried waits for nothing.
func TestFailedStopWaits(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	for verb, want := range map[Verb]int{Stop: 0, Start: 1, Remove: 1} {
		s := Seen{Now: t0, Faults: map[string]Fault{"container/c": {Verb: verb, Until: t0.Add(time.Second)}},
			Records: map[string][]containers.Container{"c": {{ID: "x", Name: "c", State: containers.Running}}}}
		plan := Decide(Wish{Pod: p, End: &End{By: t0.Add(time.Minute), Delete: true}}, s, Backoff{})
		if len(plan.Do) != want || want == 0 && !plan.Again.Equal(t0.Add(time.Second)) {
			t.Errorf("after a failed %s: %+v", verb, plan)
		}
	}
}

// A failure that has no reason of its own says nothing of why a container waits.
func TestNoWaitingWithoutReason(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	s := Seen{Now: t0, Faults: map[string]Fault{"container/c": {Verb: Stop, Message: "stopping: no", Until: t0.Add(time.Second)}}}
	if plan := Decide(Wish{Pod: p}, s, Backoff{}); len(plan.Waiting) != 0 {
		t.Errorf("it waits: %+v", plan.Waiting)
	}
}

// However much a registry, a plugin or a probed container has to say, the API is told the beginning.
func TestLongErrorsAreCut(t *testing.T) {
	a := &stage{}
	w := newWorker(&corev1.Pod{}, &Config{}, a.parts(), logging.ForTest(t))
	s := newState(w.pod)
	w.take(s)
	long := strings.Repeat("é", 1<<20)
	for _, c := range []struct {
		action Action
		err    error
	}{
		{Action{Verb: Pull, Name: "c"}, &images.Failure{Reason: images.PullError, Message: long}}, {Action{Verb: Step, Name: "volumes"}, errors.New(long)},
		{Action{Verb: Start, Name: "c"}, refusal{"CreateContainerError", errors.New(long)}},
	} {
		w.finished(s, c.action, nil, c.err, false)
		if n := len(s.seen.Faults[c.action.key()].Message); n == 0 || n > 2*mostTold {
			t.Errorf("%s: the message has %d bytes", c.action.key(), n)
		}
	}
	for _, line := range a.noted() {
		if len(line) > 2*mostTold || strings.ContainsRune(line, '\uFFFD') {
			t.Errorf("an event has %d bytes", len(line))
		}
	}
}

// hung is a runtime that does not answer.
type hung struct {
	*stage
	patient bool
}

func (h *hung) List(ctx context.Context) (containers.Listing, error) {
	_, ends := ctx.Deadline()
	h.patient = !ends
	return containers.Listing{}, errors.New("no answer")
}

// The sweep is on the goroutine that hands everything to the pods: a runtime that hangs must not stop it for good.
func TestSweepHasAnEnd(t *testing.T) {
	h := &hung{stage: &stage{}}
	parts := h.parts()
	parts.Observer = h
	New(Config{}, *parts, logging.ForTest(t)).collect(t.Context(), nil, nil)
	if h.patient {
		t.Error("it would wait for ever")
	}
}
