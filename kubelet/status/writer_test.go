package status

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"pilothouse.dev/pkg/logging"
)

// api is one pod of one API: strict, since every method it does not have panics.
type api struct {
	typedcorev1.PodInterface
	t *testing.T

	mu      sync.Mutex
	pod     *corev1.Pod // nil: gone
	patches int
	down    bool
	refused int           // so many deletions are refused as conflicts with other writes
	hold    chan struct{} // a patch waits for it
}

func (a *api) Pods(ns string) typedcorev1.PodInterface {
	if ns != "ns" {
		a.t.Errorf("namespace %q", ns)
	}
	return a
}

func (a *api) Get(context.Context, string, metav1.GetOptions) (*corev1.Pod, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pod == nil {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), "p")
	}
	return a.pod.DeepCopy(), nil
}

func (a *api) Patch(_ context.Context, name string, kind types.PatchType, data []byte, _ metav1.PatchOptions, sub ...string) (*corev1.Pod, error) {
	a.mu.Lock()
	hold := a.hold
	a.mu.Unlock()
	if hold != nil {
		<-hold
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.patches++
	switch {
	case name != "p" || kind != types.StrategicMergePatchType || len(sub) != 1 || sub[0] != "status":
		a.t.Errorf("patch of %s %v by %s", name, sub, kind)
	case a.down:
		return nil, errors.New("connection refused")
	case a.pod == nil:
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	var meta struct{ Metadata struct{ UID types.UID } }
	if err := json.Unmarshal(data, &meta); err != nil || meta.Metadata.UID == "" {
		a.t.Errorf("the patch names no UID: %s, %v", data, err)
	}
	if meta.Metadata.UID != a.pod.UID {
		return nil, apierrors.NewConflict(corev1.Resource("pods"), name, errors.New("another UID"))
	}
	old, err := json.Marshal(a.pod)
	if err != nil {
		return nil, err
	}
	merged, err := strategicpatch.StrategicMergePatch(old, data, corev1.Pod{})
	if err != nil {
		return nil, err
	}
	next := &corev1.Pod{}
	if err := json.Unmarshal(merged, next); err != nil {
		return nil, err
	}
	rv, _ := strconv.Atoi(a.pod.ResourceVersion)
	next.ResourceVersion = strconv.Itoa(rv + 1)
	a.pod = next
	return next.DeepCopy(), nil
}

func (a *api) Delete(_ context.Context, name string, o metav1.DeleteOptions) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.GracePeriodSeconds == nil || *o.GracePeriodSeconds != 0 || o.Preconditions == nil || o.Preconditions.UID == nil {
		a.t.Errorf("deletion with %+v", o)
	}
	if a.down {
		return errors.New("connection refused")
	}
	if a.pod == nil || a.pod.UID != *o.Preconditions.UID {
		return apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	if a.refused--; a.refused >= 0 {
		return apierrors.NewConflict(corev1.Resource("pods"), name, errors.New("the object has been modified"))
	}
	a.pod = nil
	return nil
}

func start(t *testing.T) (*api, *Writer, *corev1.Pod) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", ResourceVersion: "9"}}
	p.Status.Conditions = []corev1.PodCondition{{Type: "x.io/mine", Status: "True"}}
	a := &api{t: t, pod: p.DeepCopy()}
	w := New(a, logging.ForTest(t))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a, w, p
}

func status(p *corev1.Pod, phase corev1.PodPhase) corev1.PodStatus {
	st := *p.Status.DeepCopy()
	st.Phase = phase
	return st
}

func TestNewestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, p := start(t)
		a.hold = make(chan struct{})
		w.Set(p, status(p, corev1.PodPending))
		synctest.Wait() // the first is on its way
		for range 50 {
			w.Set(p, status(p, corev1.PodRunning))
		}
		// Meanwhile another hand sets a condition.
		a.mu.Lock()
		a.pod.Status.Conditions = append(a.pod.Status.Conditions, corev1.PodCondition{Type: "x.io/other", Status: "True"})
		a.mu.Unlock()
		close(a.hold)
		if ack := <-w.Acks(); ack != (Ack{UID: "u", Phase: corev1.PodRunning}) {
			t.Errorf("ack %+v", ack)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.patches != 2 || a.pod.Status.Phase != corev1.PodRunning || len(a.pod.Status.Conditions) != 2 {
			t.Errorf("%d patches, status %+v", a.patches, a.pod.Status)
		}
	})
}

// What a pod says on its way to Running is written once, unless that takes long.
func TestPendingStatusesWaitForOneAnother(t *testing.T) {
	pending := func(p *corev1.Pod, message string) corev1.PodStatus {
		st := status(p, corev1.PodPending)
		st.Message = message
		return st
	}
	for name, c := range map[string]struct {
		until   time.Duration // when it runs
		patches int
	}{
		"runs at once": {together / 2, 1},
		"runs later":   {together * 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, w, p := start(t)
				a.pod.Status.Phase, p.Status.Phase = corev1.PodPending, corev1.PodPending
				w.Set(p, pending(p, "first"))
				w.Set(p, pending(p, "second"))
				time.Sleep(c.until)
				synctest.Wait()
				w.Set(p, status(p, corev1.PodRunning))
				synctest.Wait()
				a.mu.Lock()
				defer a.mu.Unlock()
				if a.patches != c.patches || a.pod.Status.Phase != corev1.PodRunning {
					t.Errorf("%d patches, want %d; phase %s", a.patches, c.patches, a.pod.Status.Phase)
				}
			})
		})
	}
}

func TestDeleteComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, p := start(t)
		a.down = true
		w.Set(p, status(p, corev1.PodSucceeded))
		w.Delete(p)
		time.Sleep(30 * time.Second) // the API is away, in virtual time
		a.mu.Lock()
		if a.pod == nil || a.patches < 3 {
			t.Errorf("pod %v after %d tries", a.pod, a.patches)
		}
		a.down = false
		a.mu.Unlock()
		if ack := <-w.Acks(); !ack.Gone {
			t.Errorf("ack %+v", ack)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.pod != nil {
			t.Error("the object is still there")
		}
	})
}

// A deletion that conflicts with another hand's write is tried again: the pod would stay Terminating for good.
func TestDeleteAfterConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, p := start(t)
		a.refused = 2
		w.Delete(p)
		if ack := <-w.Acks(); !ack.Gone {
			t.Errorf("ack %+v", ack)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.pod != nil {
			t.Error("the object is still there")
		}
	})
}

func TestNamesakeIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, p := start(t)
		a.pod.UID = "another"
		w.Set(p, status(p, corev1.PodRunning))
		w.Delete(p)
		if ack := <-w.Acks(); !ack.Gone || ack.UID != "u" {
			t.Errorf("ack %+v", ack)
		}
		if a.pod == nil || a.pod.Status.Phase != "" {
			t.Errorf("the namesake was touched: %+v", a.pod)
		}
	})
}

func TestStaticPodsHaveNoObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, p := start(t)
		p = p.DeepCopy()
		p.Annotations = map[string]string{"kubernetes.io/config.source": "file"}
		w.Set(p, status(p, corev1.PodRunning))
		synctest.Wait()
		if a.patches != 0 {
			t.Error("a static pod was written")
		}
	})
}
