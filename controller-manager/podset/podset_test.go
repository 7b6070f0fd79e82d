package podset

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

func made(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func controlledBy(uid string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: uid, UID: types.UID(uid), Controller: &yes}}
	}
}

func labelled(v string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Labels["app"] = v } }

func going(p *corev1.Pod) { now := metav1.Now(); p.DeletionTimestamp = &now }

func names[T metav1.Object](objs []T) string {
	var n []string
	for _, o := range objs {
		n = append(n, o.GetName())
	}
	return strings.Join(n, " ")
}

func TestSort(t *testing.T) {
	owner := made("rs")
	leaving := made("rs", going)
	sel := labels.SelectorFromSet(labels.Set{"app": "web"})
	for name, tc := range map[string]struct {
		owner                *corev1.Pod
		pod                  *corev1.Pod
		keep, adopt, release string
	}{
		"ours and selected":             {owner: owner, pod: made("p", controlledBy("rs")), keep: "p"},
		"ours, no longer selected":      {owner: owner, pod: made("p", controlledBy("rs"), labelled("db")), release: "p"},
		"nobody's and selected":         {owner: owner, pod: made("p"), adopt: "p"},
		"nobody's but going":            {owner: owner, pod: made("p", going)},
		"nobody's, not selected":        {owner: owner, pod: made("p", labelled("db"))},
		"another's, though selected":    {owner: owner, pod: made("p", controlledBy("other"))},
		"a going owner keeps":           {owner: leaving, pod: made("p", controlledBy("rs")), keep: "p"},
		"a going owner does not adopt":  {owner: leaving, pod: made("p")},
		"a going owner does not let go": {owner: leaving, pod: made("p", controlledBy("rs"), labelled("db"))},
	} {
		t.Run(name, func(t *testing.T) {
			s := Sort(tc.owner, sel, []*corev1.Pod{tc.pod})
			if names(s.Keep) != tc.keep || names(s.Adopt) != tc.adopt || names(s.Release) != tc.release {
				t.Errorf("keep %q adopt %q release %q", names(s.Keep), names(s.Adopt), names(s.Release))
			}
		})
	}
}

func TestClaimReadsTheOwnerBeforeAdopting(t *testing.T) {
	sel := labels.SelectorFromSet(labels.Set{"app": "web"})
	for name, tc := range map[string]struct {
		live    *corev1.Pod
		mine    string
		patches int
	}{
		"it is there":           {live: made("rs"), mine: "kept orphan", patches: 2},
		"it is going":           {live: made("rs", going), mine: "kept", patches: 1},
		"it is another by name": {live: made("other"), mine: "kept", patches: 1},
	} {
		t.Run(name, func(t *testing.T) {
			patches := 0
			mine, err := Claim(t.Context(), Claimer{
				Owner: made("rs"),
				Live:  func(context.Context) (metav1.Object, error) { return tc.live, nil },
				Patch: func(_ context.Context, _ string, p []byte) error {
					patches++
					if !strings.Contains(string(p), `"uid":`) {
						t.Errorf("patch %s does not name the UID", p)
					}
					return nil
				},
			}, sel, []*corev1.Pod{made("kept", controlledBy("rs")), made("strayed", controlledBy("rs"), labelled("db")), made("orphan")})
			if names(mine) != tc.mine || patches != tc.patches || (err == nil) != (tc.patches == 2) {
				t.Errorf("mine %q, %d patches, error %v", names(mine), patches, err)
			}
		})
	}
}

func TestLedger(t *testing.T) {
	k := loop.Key{Namespace: "ns", Name: "rs"}
	a := made("a", func(p *corev1.Pod) { p.ResourceVersion = "10" })
	b := made("b")
	l := NewLedger()
	l.Created(k, a)
	l.Deleting(k, b.UID)
	steps := []struct {
		name     string
		cached   []*corev1.Pod
		version  string
		creating int
		deleting int
	}{
		{"neither is seen", []*corev1.Pod{b}, "9", 1, 1},
		{"the created one is in the cache", []*corev1.Pod{a, b}, "9", 0, 1},
		{"the deleted one is going", []*corev1.Pod{a, made("b", going)}, "12", 0, 0},
		{"and stays forgotten", []*corev1.Pod{a, b}, "9", 0, 0},
	}
	for _, s := range steps {
		u := l.Unseen(k, s.cached, s.version)
		if u.Creating != s.creating || len(u.Deleting) != s.deleting {
			t.Fatalf("%s: %+v", s.name, u)
		}
	}
	l.Created(k, a)
	if u := l.Unseen(k, nil, "10"); u.Creating != 0 {
		t.Error("a pod made and gone again before it was looked at is waited for, though the cache has passed its version")
	}
	l.Deleting(k, b.UID)
	l.Kept(k, b.UID)
	if u := l.Unseen(k, []*corev1.Pod{b}, "10"); len(u.Deleting) != 0 {
		t.Error("a pod whose deletion failed counts as deleted")
	}
	if len(l.keys) != 0 {
		t.Errorf("pages are left: %v", l.keys)
	}
}

func TestSlowStart(t *testing.T) {
	for name, tc := range map[string]struct {
		n, failAt   int
		calls, done int
	}{
		"all":                            {n: 10, failAt: -1, calls: 10, done: 10},
		"a full quota is asked once":     {n: 10, failAt: 0, calls: 1, done: 0},
		"the batch of a failure is last": {n: 10, failAt: 2, calls: 3, done: 2},
		"nothing to do":                  {n: 0, failAt: -1},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			done, err := SlowStart(t.Context(), tc.n, func(_ context.Context, i int) error {
				calls.Add(1)
				if i == tc.failAt {
					return errors.New("full")
				}
				return nil
			})
			if done != tc.done || int(calls.Load()) != tc.calls || (err == nil) != (tc.failAt < 0) {
				t.Errorf("done %d, calls %d, error %v", done, calls.Load(), err)
			}
		})
	}
}

func TestRank(t *testing.T) {
	now := time.Now()
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	phase := func(ph corev1.PodPhase) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.Phase = ph } }
	ready := func(age time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-age))}}
		}
	}
	old := func(age time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-age)) }
	}
	priced := func(c string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{DeletionCost: c} }
	}
	restarted := func(n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
	}
	run := phase(corev1.PodRunning)
	for name, tc := range map[string]struct {
		first, second *corev1.Pod
		related       map[string]int
	}{
		"not assigned":              {made("z", run), made("a", on("n"), run), nil},
		"pending":                   {made("z", on("n"), phase(corev1.PodPending)), made("a", on("n"), phase(corev1.PodUnknown)), nil},
		"not ready":                 {made("z", on("n"), run), made("a", on("n"), run, ready(time.Hour)), nil},
		"cheaper":                   {made("z", on("n"), run, priced("-5")), made("a", on("n"), run), nil},
		"readiness is before price": {made("z", on("n"), run), made("a", on("n"), run, ready(time.Hour), priced("-5")), nil},
		"doubled up":                {made("z", on("full"), run), made("a", on("n"), run), map[string]int{"full": 2, "n": 1}},
		"ready for a shorter time":  {made("z", on("n"), run, ready(time.Second)), made("a", on("n"), run, ready(time.Hour)), nil},
		"about as long: by UID":     {made("a", on("n"), run, ready(60*time.Minute)), made("z", on("n"), run, ready(59*time.Minute)), nil},
		"more restarts":             {made("z", on("n"), run, restarted(3)), made("a", on("n"), run, restarted(1)), nil},
		"newer":                     {made("z", on("n"), run, old(time.Minute)), made("a", on("n"), run, old(time.Hour)), nil},
		"a price that is no number": {made("a", on("n"), run, priced("cheap")), made("z", on("n"), run), nil},
	} {
		t.Run(name, func(t *testing.T) {
			pods := []*corev1.Pod{tc.second, tc.first}
			Rank(pods, tc.related, now)
			if !slices.Equal(pods, []*corev1.Pod{tc.first, tc.second}) {
				t.Errorf("gave up %s first", pods[0].Name)
			}
		})
	}
}
