package nodelifecycle

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/client"
)

// inCache makes a controller whose caches hold these, and that writes them to a client that only remembers.
func inCache(t *testing.T, objs ...runtime.Object) (*controller, *fake.Clientset) {
	t.Helper()
	kube := fake.NewClientset(objs...)
	tools := loop.Tools{Clients: &client.Clients{Kube: kube}, Informers: client.Informers(kube), Recorder: record.NewFakeRecorder(10), Log: zap.NewNop()}
	core := tools.Informers.Core().V1()
	c := &controller{t: tools, cfg: Config{Rates: Rates{Usual: 1, Unwell: 0.55}}, signs: newSigns(), limits: newLimits()}
	c.nodes, c.store, c.pods = core.Nodes().Lister(), core.Nodes().Informer().GetStore(), podset.NewReader(tools.Informers)
	c.leases = tools.Informers.Coordination().V1().Leases().Lister().Leases(corev1.NamespaceNodeLease)
	for _, o := range objs {
		var err error
		switch o := o.(type) {
		case *corev1.Node:
			err = c.store.Add(o)
		case *corev1.Pod:
			err = core.Pods().Informer().GetStore().Add(o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c, kube
}

func TestAPodThatCannotBeToldOfKeepsNoTaint(t *testing.T) {
	bad, good := node("Ready=True"), node("Ready=True")
	bad.Name, good.Name = "bad", "good"
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "bad"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	c, kube := inCache(t, bad, good, p)
	kube.PrependReactor("update", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("pods"), "p", nil)
	})
	_, err := c.apply(t.Context(), bad, true, time.Unix(1000, 0))
	if err == nil || !strings.Contains(err.Error(), "marking pod ns/p not ready") {
		t.Errorf("error %v", err)
	}
	got, err := kube.CoreV1().Nodes().Get(context.Background(), "bad", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "unreachable:NoExecute unreachable:NoSchedule"; text(got.Spec.Taints) != want {
		t.Errorf("taints %q, want %q", text(got.Spec.Taints), want)
	}
}

func TestComingAndGoing(t *testing.T) {
	fresh, old, ready := node(), node("Ready=False"), node("Ready=True")
	fresh.Name, old.Name, ready.Name = "fresh", "old", "ready"
	for _, n := range []*corev1.Node{fresh, old, ready} {
		n.UID, n.CreationTimestamp = types.UID("uid-"+n.Name), metav1.Now()
	}
	old.CreationTimestamp = metav1.NewTime(time.Now().Add(-time.Hour))
	c, _ := inCache(t, fresh, old, ready)
	c.cfg.Startup, c.cfg.Grace = time.Hour, time.Hour
	look := func(name string) {
		t.Helper()
		if _, err := c.reconcile(t.Context(), loop.Key{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		look("fresh")
		look("old")
		look("ready")
	}
	if err := c.store.Delete(fresh); err != nil {
		t.Fatal(err)
	}
	look("fresh")
	look("fresh")
	look("never there")
	events := c.t.Recorder.(*record.FakeRecorder).Events
	close(events)
	var told []string
	for e := range events {
		told = append(told, e)
	}
	want := []string{"Normal RegisteredNode Node fresh event: Registered Node fresh in Controller", "Normal RemovingNode Node fresh event: Removing Node fresh from Controller"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestACensusIsKeptUntilSomethingChanges(t *testing.T) {
	var c counted
	counts := 0
	count := func() (census, error) { counts++; return census{"a": {counts, 0}}, nil }
	for i, step := range []struct {
		of            string
		size, another int
	}{{"1 0", 1, 0}, {"1 0", 1, 1}, {"1 1", 2, 1}, {"2 1", 3, 2}, {"2 1", 3, 3}} {
		zones, former, err := c.take(step.of, count)
		if err != nil || zones["a"].size != step.size || step.another > 0 && former["a"].size != step.another {
			t.Errorf("step %d: %v after %v, %v", i, zones["a"], former["a"], err)
		}
	}
}

func TestWhoIsSilentIsATurn(t *testing.T) {
	s, n, now := newSigns(), node("Ready=True"), time.Unix(1000, 0)
	s.look(n, nil, time.Minute, now)
	for i, step := range []struct {
		do   func()
		want int
	}{
		{func() { s.decide(n.Name, false) }, 0},
		{func() { s.decide(n.Name, true) }, 1},
		{func() { s.decide(n.Name, true) }, 1},
		{func() { s.forget(n.Name) }, 2},
		{func() { s.forget(n.Name) }, 2},
	} {
		if step.do(); s.turns() != step.want {
			t.Errorf("step %d: %d turns, want %d", i, s.turns(), step.want)
		}
	}
}
