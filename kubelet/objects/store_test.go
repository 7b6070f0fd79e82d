package objects

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/testcluster"
)

// TestStore follows objects of a real API server: what appears, changes and goes, for the pods that name it and as long as they do.
func TestStore(t *testing.T) {
	cluster := testcluster.Start(t)
	maps := cluster.Kube.CoreV1().ConfigMaps("default")
	put := func(data string) {
		t.Helper()
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"k": data}}
		_, err := maps.Update(t.Context(), cm, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			_, err = maps.Create(t.Context(), cm, metav1.CreateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("one")
	s := New(cluster.Kube)
	s.rest = 0
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	pod := func(uid types.UID, names ...string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", UID: uid}}
		for _, n := range names {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: n}}}}})
		}
		return p
	}
	if _, err := s.ConfigMap("default", "settings"); err == nil || apierrors.IsNotFound(err) {
		t.Errorf("an object that no pod names gives %v", err)
	}
	s.Keep(pod("uid-x", "settings", "missing"))
	s.Keep(pod("uid-y", "settings"))
	if cm, err := s.ConfigMap("default", "settings"); err != nil || cm.Data["k"] != "one" {
		t.Fatalf("got %v, %v", cm, err)
	}
	if _, err := s.ConfigMap("default", "missing"); !apierrors.IsNotFound(err) {
		t.Errorf("a missing object gives %v", err)
	}
	// until waits for a change that concerns want pods, after which ok holds.
	until := func(what string, want int, ok func() bool) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for {
			select {
			case <-s.Changes():
				if uids := s.TakeChanged(); len(uids) == want && ok() {
					return
				}
			case <-deadline:
				t.Fatalf("no change told: %s", what)
			}
		}
	}
	put("two")
	until("changed", 2, func() bool { cm, err := s.ConfigMap("default", "settings"); return err == nil && cm.Data["k"] == "two" })
	if err := maps.Delete(t.Context(), "settings", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until("gone", 2, func() bool { _, err := s.ConfigMap("default", "settings"); return apierrors.IsNotFound(err) })

	// One pod goes: the other's objects are still followed. Both gone: nothing is.
	s.Drop("uid-x")
	put("three")
	until("back", 1, func() bool {
		cm, err := s.ConfigMap("default", "settings")
		return err == nil && cm.Data["k"] == "three"
	})
	s.Drop("uid-y")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		left := len(s.slots)
		s.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d objects are still followed", left)
		}
	}
}
