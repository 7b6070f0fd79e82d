package pods

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/pkg/pod"
)

// A pod that the node ends carries the condition for it, and keeps it while others write; a kubelet that is started again goes on ending it.
func TestEndResumed(t *testing.T) {
	p := asking("p", corev1.PodQOSBestEffort, "", "", 0)
	st := corev1.PodStatus{Phase: corev1.PodRunning, Reason: "Evicted", Message: "The node was low on resource: memory. "}
	disrupted(&st, p, "", time.Now())
	if len(st.Conditions) != 0 {
		t.Fatalf("without a disruption there is %v", st.Conditions)
	}
	p.Status = *status.WithOthers(&st, &corev1.PodStatus{})
	if newState(p).evicted != nil {
		t.Error("a pod that ends by its own doing is taken for one that the node ends")
	}
	disrupted(&st, p, "why", time.Now())
	p.Status = *status.WithOthers(&st, &corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: "other"}}})
	c := pod.Condition(p, corev1.DisruptionTarget)
	if c == nil || c.Status != corev1.ConditionTrue || c.Reason != "TerminationByKubelet" || c.Message != "why" {
		t.Fatalf("the condition is %+v", c)
	}
	e := newState(p).evicted
	if e == nil || e.Phase != corev1.PodFailed || e.Reason != "Evicted" || e.Message != st.Message || e.Disruption != "why" {
		t.Errorf("the end is %+v", e)
	}
	p.Status.Phase = corev1.PodFailed
	if newState(p).evicted != nil {
		t.Error("one that has ended is ended again")
	}
}

// A pod that is given an hour to end, and that the node ends, has no hour; the other way round neither.
func TestEndHurries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, first := range []string{"deleted", "evicted"} {
			began := time.Now()
			p := asking("p", corev1.PodQOSBestEffort, "", "", 0)
			s := newState(p)
			s.pod = p
			deleted := func() {
				s.pod.DeletionTimestamp, s.pod.DeletionGracePeriodSeconds = &metav1.Time{Time: began.Add(time.Hour)}, new(int64(3600))
			}
			evicted := func() { s.evicted = &End{Phase: corev1.PodFailed, By: time.Now().Add(5 * time.Second)} }
			order := []func(){deleted, evicted}
			if first == "evicted" {
				slices.Reverse(order)
			}
			for i, happens := range order {
				happens()
				end, _ := s.goal(time.Now())
				if want := began.Add(5 * time.Second); end == nil || (i == 1 || first == "evicted") && !end.By.Equal(want) {
					t.Errorf("%s first, step %d: the end is %+v, want it by %s", first, i, end, want)
				}
			}
			time.Sleep(2 * time.Second)
			if end, _ := s.goal(time.Now()); !end.By.Equal(began.Add(5*time.Second)) || !end.Delete {
				t.Errorf("%s first: later, the end is %+v", first, end)
			}
		}
	})
}

// Ended: a pod that is not there has.
func TestEnded(t *testing.T) {
	ws := New(Config{}, Parts{}, zap.NewNop())
	if !ws.Ended("none") {
		t.Error("a pod that is not there has not ended")
	}
	w := &worker{uid: "one"}
	ws.pods[types.UID("one")] = w
	if ws.Ended("one") {
		t.Error("ended at once")
	}
	w.ended.Store(true)
	if !ws.Ended("one") {
		t.Error("not ended")
	}
}
