package volumes

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/resolve"
)

// slowTokens answers when it may.
type slowTokens struct {
	asked, answer chan struct{}
	given         atomic.Bool
	forgotten     chan bool // whether the last token was given before
}

func (s *slowTokens) Token(context.Context, *corev1.Pod, *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	s.given.Store(false)
	s.asked <- struct{}{}
	<-s.answer
	s.given.Store(true)
	return "token", time.Now().Add(time.Hour), nil
}

func (s *slowTokens) Forget(types.UID) { s.forgotten <- s.given.Load() }

// TestForgottenAfterRenewal: what is kept of a pod is dropped after the last who asks for it, or it would be kept for ever.
func TestForgottenAfterRenewal(t *testing.T) {
	m := manager(t, objects{})
	slow := &slowTokens{asked: make(chan struct{}, 1), answer: make(chan struct{}, 1), forgotten: make(chan bool, 1)}
	m.toks = slow
	p := podWith(tokenVolume("id", ""))
	slow.answer <- struct{}{}
	if _, err := m.Setup(t.Context(), p, resolve.Facts{}); err != nil {
		t.Fatal(err)
	}
	<-slow.asked
	go m.renew(t.Context(), p.UID)
	<-slow.asked
	torn := make(chan error)
	go func() { torn <- m.Teardown(t.Context(), p.UID) }()
	select {
	case <-slow.forgotten:
		t.Fatal("forgotten while it is asked for")
	case <-time.After(20 * time.Millisecond): // long enough for who does not wait
	}
	slow.answer <- struct{}{}
	if err := <-torn; err != nil {
		t.Fatal(err)
	}
	if !<-slow.forgotten {
		t.Error("forgotten before it was given")
	}
}

// TestWhereAfterAFailure: volumes that are there stay known when one cannot be brought up to date.
func TestWhereAfterAFailure(t *testing.T) {
	look := objects{"configmap/shop/settings": {"a": "1"}}
	m := manager(t, look)
	p := podWith(volume("settings", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}))
	if _, err := m.Setup(t.Context(), p, resolve.Facts{}); err != nil {
		t.Fatal(err)
	}
	delete(look, "configmap/shop/settings")
	if _, err := m.Setup(t.Context(), p, resolve.Facts{}); err == nil {
		t.Fatal("no error")
	}
	if m.Where(p.UID)["settings"] == "" {
		t.Error("it is not known where the volume is")
	}
}
