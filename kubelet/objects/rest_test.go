package objects

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/pkg/testcluster"
)

type counted struct {
	http.RoundTripper
	n *atomic.Int64
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

// TestNextPod: a pod that comes after the last one of an object has gone asks the API for nothing, and sees what the object is by then; once the
// API was away, it asks.
func TestNextPod(t *testing.T) {
	cluster := testcluster.Start(t)
	maps := cluster.Kube.CoreV1().ConfigMaps("default")
	ca := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "ca"}, Data: map[string]string{"k": "one"}}
	if _, err := maps.Create(t.Context(), ca, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	cfg := cluster.Config("admin", "system:masters")
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { return counted{rt, &asked} })
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := running(t, kube)
	key := Key{Kind: ConfigMap, Namespace: "default", Name: "ca"}
	following := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.slots[key] != nil && s.slots[key].current()
	}
	leave := func(uid types.UID) {
		t.Helper()
		s.Drop(uid)
		eventually(t, "it rests", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return !s.idle[key].IsZero()
		})
	}
	holds := func(want string) bool {
		cm, err := s.ConfigMap("default", "ca")
		return err == nil && cm.Data["k"] == want
	}
	s.Keep(showing("uid-1", mapNamed("ca")))
	eventually(t, "it is read", func() bool { return holds("one") && following() })
	before := asked.Load()
	leave("uid-1")
	ca.Data["k"] = "two"
	if _, err := maps.Update(t.Context(), ca, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.Keep(showing("uid-2", mapNamed("ca")))
	eventually(t, "the watch ran on", func() bool { return holds("two") })
	if now := asked.Load(); now != before {
		t.Errorf("the API was asked %d times", now-before)
	}

	leave("uid-2")
	cluster.KillAPIServer()
	eventually(t, "the watch has ended", func() bool { return !following() })
	if err := cluster.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	ca.Data["k"] = "three"
	if _, err := maps.Update(t.Context(), ca, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.slots[key].watching(false) // it may be back by now
	s.mu.Unlock()
	s.Keep(showing("uid-3", mapNamed("ca")))
	if !holds("three") {
		t.Error("it holds what it was before the API was away")
	}
}

// TestRetire: what is kept for the next pod, and what is not.
func TestRetire(t *testing.T) {
	followed := func(sl *slot) { sl.stop, sl.heard, sl.open = func() {}, true, true }
	denied := apierrors.NewForbidden(corev1.Resource(ConfigMap), "x", errors.New("no pod of this node uses it"))
	for _, c := range []struct {
		what   string
		kind   string
		change func(*slot)
		rests  bool
	}{
		{"followed", ConfigMap, followed, true},
		{"a bundle", TrustBundle, followed, true},
		{"secret", Secret, followed, false},
		{"not heard of yet", ConfigMap, func(sl *slot) { followed(sl); sl.heard = false }, false},
		{"that cannot change", ConfigMap, func(sl *slot) { followed(sl); sl.stop = nil; sl.frozen = true }, false},
		{"that may not be read any more", ConfigMap, func(sl *slot) { followed(sl); sl.refuse(denied) }, false},
	} {
		s, key := New(nil), Key{Kind: c.kind, Namespace: "default", Name: "x"}
		s.slots[key] = newSlot(key, s.note)
		c.change(s.slots[key])
		now := time.Now()
		next := s.retireLocked(now)
		if rests := s.slots[key] != nil; rests != c.rests || next.IsZero() == rests {
			t.Errorf("%s: rests: %v, until %v", c.what, rests, next)
		}
		if c.rests {
			if s.retireLocked(next.Add(-1)); s.slots[key] == nil {
				t.Errorf("%s: gone too early", c.what)
			}
			if again := s.retireLocked(next); s.slots[key] != nil || len(s.idle) != 0 || !again.IsZero() {
				t.Errorf("%s: there after its rest", c.what)
			}
		}
	}

	s, now := New(nil), time.Now()
	add := func(n int) Key {
		key := Key{Kind: ConfigMap, Namespace: "default", Name: fmt.Sprint(n)}
		s.slots[key] = newSlot(key, s.note)
		followed(s.slots[key])
		return key
	}
	first := add(0)
	s.retireLocked(now)
	for i := range mostIdle {
		add(i + 1)
	}
	s.retireLocked(now.Add(time.Second))
	if len(s.slots) != mostIdle || len(s.idle) != mostIdle || s.slots[first] != nil {
		t.Errorf("%d are left, %d rest", len(s.slots), len(s.idle))
	}
}

// TestRightsEnd: a kubelet may read what its pods name. What it followed for the next pod it lets go once the API refuses it.
func TestRightsEnd(t *testing.T) {
	cluster := testcluster.Start(t)
	core := cluster.Kube.CoreV1()
	_, err := core.ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}}, metav1.CreateOptions{})
	if err == nil {
		_, err = core.Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	pod := showing("", mapNamed("settings"))
	pod.Name, pod.Spec.NodeName, pod.Spec.AutomountServiceAccountToken = "web", "n1", new(false)
	pod.Spec.Containers, pod.Spec.Volumes[0].Name = []corev1.Container{{Name: "c", Image: "i"}}, "v"
	if pod, err = core.Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s := running(t, cluster.Clients("system:node:n1", "system:nodes").Kube)
	key := Key{Kind: ConfigMap, Namespace: "default", Name: "settings"}
	rests := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.idle[key].IsZero()
	}
	s.Keep(pod)
	eventually(t, "it is followed", func() bool {
		_, err := s.ConfigMap("default", "settings")
		s.mu.Lock()
		defer s.mu.Unlock()
		return err == nil && s.slots[key].current()
	})
	s.Drop(pod.UID)
	eventually(t, "it rests", rests)
	if err := core.Pods("default").Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	cluster.KillAPIServer()
	if err := cluster.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is let go", func() bool { return !rests() })
}
