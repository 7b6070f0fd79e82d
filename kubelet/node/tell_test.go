package node

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// heard are events.
type heard []string

func (h *heard) Eventf(object runtime.Object, kind, reason, format string, args ...any) {
	about := object.(*corev1.ObjectReference)
	*h = append(*h, fmt.Sprintf("%s %s %s %s", about.Name, kind, reason, fmt.Sprintf(format, args...)))
}

// take gives what was heard since.
func (h *heard) take() []string {
	list := *h
	*h = nil
	return list
}

// TestTell: each change is told once, however often it is seen.
func TestTell(t *testing.T) {
	var said heard
	n := New(Config{Name: "n"}, Parts{Events: &said}, zap.NewNop())
	now := time.Unix(1000, 0)
	st := func(old []corev1.NodeCondition, boot string, h health) *corev1.NodeStatus {
		now = now.Add(time.Second)
		return &corev1.NodeStatus{Conditions: beat(old, conditions(h), metav1.NewTime(now)), NodeInfo: corev1.NodeSystemInfo{BootID: boot}}
	}
	down := health{network: errors.New("down")}
	first := st(nil, "a", down)
	well := st(first.Conditions, "a", health{})
	short := st(well.Conditions, "a", health{memory: true})
	again := st(short.Conditions, "a", health{})
	booted := st(again.Conditions, "b", down)
	back := st(booted.Conditions, "b", health{})
	line := func(reason string) string {
		return "n Normal " + reason + " Node n status is now: " + reason
	}
	for _, tc := range []struct {
		name     string
		had, has *corev1.NodeStatus
		want     []string
	}{
		{"registered", &corev1.NodeStatus{}, first, []string{line("NodeHasSufficientMemory"), line("NodeHasNoDiskPressure"), line("NodeHasSufficientPID")}},
		{"ready", first, well, []string{line("NodeReady")}},
		{"the informer is late", first, well, nil},
		{"nothing new", well, well, nil},
		{"short", well, short, []string{line("NodeHasInsufficientMemory")}},
		{"well again", short, again, []string{line("NodeHasSufficientMemory")}},
		{"booted", again, booted, []string{line("NodeNotReady"), "n Warning Rebooted Node n has been rebooted, boot id: b"}},
		{"booted, late", again, booted, nil},
		{"back", booted, back, []string{line("NodeReady")}},
	} {
		n.tell(tc.had, tc.has)
		if got := said.take(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestTellEnforced: that limits are in force, or not yet, is told once.
func TestTellEnforced(t *testing.T) {
	var said heard
	late := errors.New("in use")
	n := New(Config{Name: "n"}, Parts{Events: &said, Enforced: func() error { return late }}, zap.NewNop())
	n.tellEnforced()
	n.tellEnforced()
	late = nil
	n.tellEnforced()
	n.tellEnforced()
	want := []string{"n Warning FailedNodeAllocatableEnforcement Failed to update Node Allocatable Limits: in use",
		"n Normal NodeAllocatableEnforced Updated Node Allocatable limit across pods"}
	if got := said.take(); !slices.Equal(got, want) {
		t.Errorf("told %q", got)
	}
}
