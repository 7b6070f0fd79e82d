package statefulset

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

func TestStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		set   *appsv1.StatefulSet
		revs  string
		pods  string
		want  string // replicas ready available current updated, revisions
		again time.Duration
	}{
		"none":                       {set: web(), revs: "a a", want: "0 0 0 0 0 a a"},
		"none wished":                {set: web(size(0)), revs: "a b", want: "0 0 0 0 0 b b"},
		"on their way":               {set: web(), revs: "a a", pods: "web-0@a web-1@a:pending", want: "2 1 1 2 2 a a"},
		"all":                        {set: web(), revs: "a a", pods: "web-0@a web-1@a web-2@a", want: "3 3 3 3 3 a a"},
		"in an update":               {set: web(), revs: "a b", pods: "web-0@a web-1@a web-2@b:unready", want: "3 2 2 2 1 a b"},
		"updated":                    {set: web(), revs: "a b", pods: "web-0@b web-1@b web-2@b", want: "3 3 3 3 3 b b"},
		"updated on delete":          {set: web(onDelete), revs: "a b", pods: "web-0@b web-1@b web-2@b", want: "3 3 3 3 3 b b"},
		"updated, but the last":      {set: web(), revs: "a b", pods: "web-0@b web-1@b web-2@b:unready", want: "3 2 2 0 3 a b"},
		"updated, but too many":      {set: web(size(2)), revs: "a b", pods: "web-0@b web-1@b web-2@a", want: "3 3 3 1 2 a b"},
		"updated, one too many left": {set: web(size(2)), revs: "a b", pods: "web-0@b web-1@b web-2@a:unready", want: "3 2 2 1 2 a b"},
		"updated to the partition":   {set: web(parted(2)), revs: "a b", pods: "web-0@a web-1@a web-2@b", want: "3 3 3 2 1 a b"},
		"one is leaving":             {set: web(), revs: "a b", pods: "web-0@a web-1@a web-2@a:leaving", want: "3 3 3 2 0 a b"},
		"one was deleted just now":   {set: web(), revs: "a b", pods: "web-0@a web-1@a web-2@a:deleted", want: "3 3 3 2 0 a b"},
		"one is young":               {set: web(minReady(10)), revs: "a a", pods: "web-0@a web-1@a web-2@a:young", want: "3 3 2 3 3 a a", again: 6 * time.Second},
		"ready without running":      {set: web(), revs: "a a", pods: "web-0@a:stopped", want: "1 0 0 1 1 a a"},
		"one of a forgotten edition": {set: web(), revs: "a c", pods: "web-0@a web-1@b web-2@c", want: "3 3 3 1 1 a c"},
	} {
		t.Run(name, func(t *testing.T) {
			gone := map[types.UID]bool{}
			var pods []*corev1.Pod
			for _, text := range strings.Fields(tc.pods) {
				p, deleted := madePod(t, tc.set, text)
				pods = append(pods, p)
				gone[p.UID] = deleted
			}
			current, update, _ := strings.Cut(tc.revs, " ")
			tc.set.Status.Conditions = []appsv1.StatefulSetCondition{{Type: "Mine"}}
			s, again := nextStatus(tc.set, pods, gone, current, update, now)
			got := fmt.Sprint(s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas, " ", s.CurrentRevision, " ", s.UpdateRevision)
			if got != tc.want {
				t.Errorf("status %s, want %s", got, tc.want)
			}
			if again != tc.again {
				t.Errorf("again after %v, want %v", again, tc.again)
			}
			if s.ObservedGeneration != 7 || s.CollisionCount == nil || *s.CollisionCount != 0 || len(s.Conditions) != 1 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

func TestCurrentRevision(t *testing.T) {
	rev := func(name, image string) *appsv1.ControllerRevision {
		r := &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":%q}]}}}}`, image)}}
		r.Name = name
		return r
	}
	revs := []*appsv1.ControllerRevision{rev("web-a", "a"), rev("web-b", "b")}
	set := web()
	update := revision{"web-b", &set.Spec.Template}
	for was, want := range map[string]string{"": "web-b", "web-a": "web-a", "web-b": "web-b", "web-lost": "web-b"} {
		set.Status.CurrentRevision = was
		got, err := currentOf(set, revs, update)
		if err != nil || got.name != want || got.template.Spec.Containers[0].Image != strings.TrimPrefix(want, "web-") {
			t.Errorf("current revision after %q is %s (%v, %v), want %s", was, got.name, got.template, err, want)
		}
	}
	set.Status.CurrentRevision = "web-a"
	revs[0].Data.Raw = []byte("{")
	if _, err := currentOf(set, revs, update); err == nil {
		t.Error("a revision that cannot be read is used")
	}
	if s := collided(set); *s.CollisionCount != 1 {
		t.Errorf("collisions %d, want 1", *s.CollisionCount)
	}
}
