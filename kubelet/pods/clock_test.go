package pods

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/containers"
)

// A container's end is held by our own clock: with the wall clock set forward or back its back-off lasts as long as it should. A wall clock that was set is
// played by times that have no monotonic reading and are off.
func TestMoments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, now := moments{}, time.Now()
		ended := now.Add(-3 * time.Second).Round(0)
		if got := m.hold("c", ended, now); !got.Equal(ended) || now.Sub(got) != 3*time.Second {
			t.Errorf("seen first: %s", now.Sub(got))
		}
		time.Sleep(2 * time.Second)
		now = time.Now()
		for _, jump := range []time.Duration{time.Hour, -time.Hour} {
			if got := m.hold("c", ended.Add(jump), now); now.Sub(got) != 5*time.Second {
				t.Errorf("after a jump of %s it ended %s ago", jump, now.Sub(got))
			}
		}
		if got := m.hold("future", now.Add(time.Hour).Round(0), now); !got.Equal(now) {
			t.Errorf("an end in the future is %s off", got.Sub(now))
		}
		if got := m.hold("none", time.Time{}, now); !got.IsZero() {
			t.Errorf("no time became %s", got)
		}
	})
}

// The deadline of a pod is changed while it runs: sooner, later, and taken away. When it was started is held by our own clock.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := asking("p", corev1.PodQOSBestEffort, "", "", 0)
		p.Status.StartTime = &metav1.Time{Time: time.Now().Round(0)}
		s := newState(p)
		s.pod = p
		at := func(limit int64) (end *End, left time.Duration) {
			s.pod = s.pod.DeepCopy()
			s.pod.Spec.ActiveDeadlineSeconds = &limit
			end, again := s.goal(time.Now())
			if !again.IsZero() {
				left = time.Until(again)
			}
			return end, left
		}
		time.Sleep(5 * time.Second)
		if end, left := at(30); end != nil || left != 25*time.Second {
			t.Errorf("of 30 s are left %s, end %v", left, end)
		}
		if end, left := at(20); end != nil || left != 15*time.Second {
			t.Errorf("of 20 s are left %s, end %v", left, end)
		}
		s.pod = s.pod.DeepCopy()
		s.pod.Status.StartTime.Time = s.pod.Status.StartTime.Add(0)
		time.Sleep(14 * time.Second)
		if end, _ := at(20); end != nil {
			t.Error("too early")
		}
		time.Sleep(time.Second)
		if end, _ := at(20); end == nil || end.Reason != "DeadlineExceeded" || end.Phase != corev1.PodFailed {
			t.Errorf("at the deadline: %+v", end)
		}
	})
}

// Records keep the wall time of their end, and have our clock's.
func TestTakeHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newState(asking("p", corev1.PodQOSBestEffort, "", "", 0))
		ended := time.Now().Round(0)
		time.Sleep(time.Second)
		for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
			s.take(containers.Listing{Containers: []containers.Container{{ID: "1", Name: "c", State: containers.Exited, Finished: ended.Add(jump)}}})
			if got := s.seen.Records["c"][0].Finished; !got.Equal(ended) || time.Since(got) != time.Second {
				t.Errorf("with a jump of %s it ended %s ago", jump, time.Since(got))
			}
		}
		s.take(containers.Listing{})
		if len(s.ends) != 0 {
			t.Errorf("of containers that are gone is kept: %v", s.ends)
		}
	})
}
