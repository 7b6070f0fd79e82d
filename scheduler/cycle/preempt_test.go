package cycle

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/scheduler/plugins"
	"pilothouse.dev/scheduler/queue"
)

func TestPreempts(t *testing.T) {
	onStage(t, plugins.Table, func(t *testing.T, s *stage) {
		s.addNode("n1", "2")
		s.addPod("low", "1", 1)
		s.addPod("mid", "1", 5)
		s.check(t, 2, 0, queue.Counts{})
		s.told()
		s.addPod("high", "1", 10)
		s.check(t, 2, 0, queue.Counts{Waiting: 1})
		if got := s.pod("high").Status.NominatedNodeName; got != "n1" {
			t.Errorf("nominated to %q", got)
		}
		if !pod.Terminating(s.pod("low")) || pod.Terminating(s.pod("mid")) {
			t.Error("not just the least important pod was evicted")
		}
		if c := pod.Condition(s.pod("low"), corev1.DisruptionTarget); c == nil || c.Reason != "PreemptionByScheduler" {
			t.Errorf("the victim was told %+v", c)
		}
		// Room that is being made is not for others, and nobody else is evicted while it is.
		s.addPod("thief", "1", 2)
		time.Sleep(time.Second)
		s.addNode("too-small", "0")
		time.Sleep(10 * time.Second)
		s.check(t, 2, 0, queue.Counts{Waiting: 2})
		s.end("low")
		time.Sleep(10 * time.Second)
		s.check(t, 2, 0, queue.Counts{Waiting: 1})
		if s.pod("high").Spec.NodeName != "n1" || s.pod("thief").Spec.NodeName != "" {
			t.Error("the thief got the room")
		}
	})
}

func TestFailedPreemptionIsTriedAgain(t *testing.T) {
	onStage(t, plugins.Table, func(t *testing.T, s *stage) {
		s.addNode("n1", "1")
		s.addPod("low", "1", 1)
		synctest.Wait()
		begun := time.Now()
		s.api.before = func(verb string, _ *corev1.Pod) error {
			if verb == "delete" && time.Since(begun) < 20*time.Second {
				return errors.New("the API is away")
			}
			return nil
		}
		s.addPod("high", "1", 10)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !pod.Terminating(s.pod("low")) {
			t.Fatal("the eviction was given up")
		}
		s.end("low")
		time.Sleep(10 * time.Second)
		s.check(t, 1, 0, queue.Counts{})
	})
}
