package replicaset

import (
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/podset"
)

func set(replicas int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "rs", Generation: 4},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "v": "2"}}},
		},
	}
}

func pods(n int, change ...func(*corev1.Pod)) (list []*corev1.Pod) {
	for i := range n {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint("p", i)), Labels: map[string]string{"app": "web", "v": "2"}}}
		for _, c := range change {
			c(p)
		}
		list = append(list, p)
	}
	return list
}

func going(p *corev1.Pod)    { now := metav1.Now(); p.DeletionTimestamp = &now }
func finished(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }

func readyFor(d time.Duration, now time.Time) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-d))}}
	}
}

func TestDecide(t *testing.T) {
	leaving := set(3)
	now := metav1.Now()
	leaving.DeletionTimestamp = &now
	for name, tc := range map[string]struct {
		rs             *appsv1.ReplicaSet
		pods           []*corev1.Pod
		unseen         podset.Unseen
		create, remove int
	}{
		"enough":                          {rs: set(2), pods: pods(2)},
		"too few":                         {rs: set(3), pods: pods(1), create: 2},
		"too many":                        {rs: set(1), pods: pods(3), remove: 2},
		"none wanted":                     {rs: set(0), pods: pods(2), remove: 2},
		"failed and going ones count not": {rs: set(2), pods: append(pods(2, finished), pods(2, going)...), create: 2},
		"created ones not seen count":     {rs: set(3), pods: pods(1), unseen: podset.Unseen{Creating: 2}},
		"deleted ones still seen do not":  {rs: set(1), pods: pods(3), unseen: podset.Unseen{Deleting: map[types.UID]bool{"p0": true, "p1": true}}},
		"scaled up while deletions show":  {rs: set(3), pods: pods(3), unseen: podset.Unseen{Deleting: map[types.UID]bool{"p0": true}}, create: 1},
		"scaled down, creations unseen":   {rs: set(1), pods: pods(1), unseen: podset.Unseen{Creating: 3}, remove: 1},
		"a burst at a time":               {rs: set(2000), create: burst},
		"a going set does nothing":        {rs: leaving},
	} {
		t.Run(name, func(t *testing.T) {
			p := decide(tc.rs, tc.pods, tc.unseen)
			if p.create != tc.create || p.remove != tc.remove {
				t.Errorf("create %d, remove %d; want %d, %d", p.create, p.remove, tc.create, tc.remove)
			}
			if p.remove > len(p.from) {
				t.Errorf("removes %d of %d", p.remove, len(p.from))
			}
		})
	}
}

func TestNextStatus(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	rs := set(5)
	rs.Spec.MinReadySeconds = 30
	list := pods(1, readyFor(time.Minute, now))                                  // available
	list = append(list, pods(1, readyFor(10*time.Second, now))...)               // ready, in 20 s available
	list = append(list, pods(1, func(p *corev1.Pod) { p.Labels["v"] = "1" })...) // not fully labelled
	list = append(list, append(pods(1, going), append(pods(1, finished), pods(1, going, finished)...)...)...)
	s, again := nextStatus(rs, list, nil, now)
	if s.Replicas != 3 || s.ReadyReplicas != 2 || s.AvailableReplicas != 1 || s.FullyLabeledReplicas != 2 || *s.TerminatingReplicas != 1 || s.ObservedGeneration != 4 {
		t.Errorf("%+v", s)
	}
	if again != 20*time.Second {
		t.Errorf("looks again after %v, want 20 s", again)
	}
}

func TestReplicaFailureComesAndGoes(t *testing.T) {
	now := time.Now()
	full := &failure{"FailedCreate", errors.New("quota is full")}
	c := conditions(nil, full, now)
	if len(c) != 1 || c[0].Reason != "FailedCreate" || c[0].Status != corev1.ConditionTrue || c[0].Message != "quota is full" {
		t.Fatalf("%+v", c)
	}
	if again := conditions(c, full, now.Add(time.Minute)); !again[0].LastTransitionTime.Equal(&c[0].LastTransitionTime) {
		t.Error("the time moved without a change")
	}
	if c = conditions(c, nil, now); len(c) != 0 {
		t.Errorf("left %+v", c)
	}
}
