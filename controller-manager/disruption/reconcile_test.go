package disruption

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var now = time.Unix(1_750_000_000, 0)

func budget(least, most string, changes ...func(*policyv1.PodDisruptionBudget)) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b", Generation: 4}}
	parse := func(text string) *intstr.IntOrString {
		if text == "" {
			return nil
		}
		v := intstr.Parse(text)
		return &v
	}
	b.Spec.MinAvailable, b.Spec.MaxUnavailable = parse(least), parse(most)
	for _, c := range changes {
		c(b)
	}
	return b
}

// noted says that evictions announced the end of these pods so many seconds ago.
func noted(seconds int, names ...string) func(*policyv1.PodDisruptionBudget) {
	return func(b *policyv1.PodDisruptionBudget) {
		if b.Status.DisruptedPods == nil {
			b.Status.DisruptedPods = map[string]metav1.Time{}
		}
		for _, n := range names {
			b.Status.DisruptedPods[n] = metav1.NewTime(now.Add(-time.Duration(seconds) * time.Second))
		}
	}
}

// pods are r: ready, n: not ready, g: ready and going; named by their place.
func pods(states string) (list []*corev1.Pod) {
	for i, s := range states {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(i), UID: types.UID(fmt.Sprint(i))}}
		if s != 'n' {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		if s == 'g' {
			t := metav1.NewTime(now)
			p.DeletionTimestamp = &t
		}
		list = append(list, p)
	}
	return list
}

func TestDecide(t *testing.T) {
	for name, tc := range map[string]struct {
		b         *policyv1.PodDisruptionBudget
		pods      string
		expected  int32
		unmanaged int
		want      string // current/desired/expected allowed
		disrupted string
		again     time.Duration
		notes     string
	}{
		"none":                            {b: budget("1", ""), want: "0/1/0 0", notes: "NoPods No matching pods found"},
		"enough":                          {b: budget("2", ""), pods: "rrr", expected: 3, want: "3/2/3 1"},
		"just enough":                     {b: budget("3", ""), pods: "rrr", expected: 3, want: "3/3/3 0"},
		"too few":                         {b: budget("3", ""), pods: "rnr", expected: 3, want: "2/3/3 0"},
		"a part":                          {b: budget("50%", ""), pods: "rrrrr", expected: 5, want: "5/3/5 2"},
		"a part of what should be":        {b: budget("50%", ""), pods: "rrr", expected: 10, want: "3/5/10 0"},
		"all":                             {b: budget("100%", ""), pods: "rrr", expected: 3, want: "3/3/3 0"},
		"one may go":                      {b: budget("", "1"), pods: "rrr", expected: 3, want: "3/2/3 1"},
		"one may go and is away":          {b: budget("", "1"), pods: "rr", expected: 3, want: "2/2/3 0"},
		"a part may go, rounded up":       {b: budget("", "30%"), pods: "rrrrr", expected: 5, want: "5/3/5 2"},
		"more than there are":             {b: budget("", "7"), pods: "rrr", expected: 3, want: "3/0/3 3"},
		"none may go":                     {b: budget("", "0"), pods: "rrr", expected: 3, want: "3/3/3 0"},
		"going ones are no longer":        {b: budget("1", ""), pods: "rgr", expected: 3, want: "2/1/3 1"},
		"announced ones neither":          {b: budget("1", "", noted(30, "1")), pods: "rrr", expected: 3, want: "2/1/3 1", disrupted: "1", again: 90 * time.Second},
		"announced and going":             {b: budget("1", "", noted(30, "1")), pods: "rgr", expected: 3, want: "2/1/3 1"},
		"announced and gone":              {b: budget("1", "", noted(30, "9")), pods: "rr", expected: 2, want: "2/1/2 1"},
		"announced long ago":              {b: budget("1", "", noted(120, "1")), pods: "rrr", expected: 3, want: "3/1/3 2", notes: "NotDeleted Pod was expected by PDB ns/b to be deleted but it wasn't"},
		"two announced":                   {b: budget("1", "", noted(110, "0"), noted(5, "1")), pods: "rrr", expected: 3, want: "1/1/3 0", disrupted: "0 1", again: 10 * time.Second},
		"nobody's pods, of which not all": {b: budget("", "1"), pods: "rrr", expected: 2, unmanaged: 1, want: "3/1/2 2", notes: "UnmanagedPods Pods selected by this PodDisruptionBudget"},
		"nobody's pods alone":             {b: budget("", "1"), pods: "rr", unmanaged: 2, want: "2/0/0 0", notes: "UnmanagedPods Pods selected"},
		"neither bound":                   {b: budget("", ""), pods: "rr", expected: 2, want: "2/0/2 2"},
	} {
		t.Run(name, func(t *testing.T) {
			p := decide(tc.b, pods(tc.pods), expectation{tc.expected, tc.unmanaged}, now)
			s := p.status
			if got := fmt.Sprintf("%d/%d/%d %d", s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods, s.DisruptionsAllowed); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if got := strings.Join(slices.Sorted(maps.Keys(s.DisruptedPods)), " "); got != tc.disrupted {
				t.Errorf("disrupted %q, want %q", got, tc.disrupted)
			}
			if p.again != tc.again {
				t.Errorf("looks again after %v, want %v", p.again, tc.again)
			}
			c := meta.FindStatusCondition(s.Conditions, "DisruptionAllowed")
			allowed := strings.HasSuffix(tc.want, " 0")
			if c == nil || (c.Status == metav1.ConditionFalse) != allowed || (c.Reason == "InsufficientPods") != allowed || (c.Reason == "SufficientPods") == allowed {
				t.Errorf("condition %+v", c)
			}
			if s.ObservedGeneration != 4 || c.ObservedGeneration != 4 {
				t.Errorf("generations %d, %d", s.ObservedGeneration, c.ObservedGeneration)
			}
			said := ""
			for _, n := range p.notes {
				said += n.reason + " " + n.message
				if (n.pod != nil) != (n.reason == "NotDeleted") {
					t.Errorf("%s is said of pod %v", n.reason, n.pod)
				}
			}
			if !strings.HasPrefix(said, tc.notes) || tc.notes == "" && said != "" {
				t.Errorf("says %q, want %q", said, tc.notes)
			}
			// what was decided stays so while nothing changes
			b := tc.b.DeepCopy()
			b.Status = s
			if again := decide(b, pods(tc.pods), expectation{tc.expected, tc.unmanaged}, now.Add(time.Second)); fmt.Sprint(again.status) != fmt.Sprint(s) {
				t.Errorf("a second look says %+v, the first %+v", again.status, s)
			}
		})
	}
}

func TestUnknown(t *testing.T) {
	b := budget("", "1")
	b.Status = policyv1.PodDisruptionBudgetStatus{CurrentHealthy: 3, DesiredHealthy: 2, ExpectedPods: 3, DisruptionsAllowed: 1, ObservedGeneration: 3}
	p := unknown(b, errors.New("no such thing"), now)
	c := meta.FindStatusCondition(p.status.Conditions, "DisruptionAllowed")
	if p.status.DisruptionsAllowed != 0 || p.status.ObservedGeneration != 4 || c == nil || c.Reason != "SyncFailed" || c.Status != metav1.ConditionFalse || c.Message != "no such thing" {
		t.Errorf("%+v", p.status)
	}
	if len(p.notes) != 1 || p.notes[0].message != "Failed to calculate the number of expected pods: no such thing" {
		t.Errorf("says %+v", p.notes)
	}
}

func TestChanged(t *testing.T) {
	yes := true
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"nothing":         {func(*corev1.Pod) {}, false},
		"an address":      {func(p *corev1.Pod) { p.Status.PodIP = "1.2.3.4" }, false},
		"an annotation":   {func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }, false},
		"not ready":       {func(p *corev1.Pod) { p.Status.Conditions = nil }, true},
		"going":           {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }, true},
		"another label":   {func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, true},
		"another's":       {func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{{UID: "x", Controller: &yes}} }, true},
		"another in part": {func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{{UID: "x"}} }, false},
	} {
		a := pods("r")[0]
		b := a.DeepCopy()
		tc.change(b)
		if got := changed(a, b); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestStale(t *testing.T) {
	pod := func(status corev1.ConditionStatus, seconds int, changes ...func(*corev1.Pod)) *corev1.Pod {
		p := pods("r")[0]
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: status,
			LastTransitionTime: metav1.NewTime(now.Add(-time.Duration(seconds) * time.Second)), Reason: "EvictionByEvictionAPI"})
		for _, c := range changes {
			c(p)
		}
		return p
	}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		want time.Duration
	}{
		"not announced":           {pods("r")[0], 0},
		"announced":               {pod(corev1.ConditionTrue, 20), 100 * time.Second},
		"announced too long ago":  {pod(corev1.ConditionTrue, 120), -1},
		"taken back":              {pod(corev1.ConditionFalse, 300), 0},
		"announced and going":     {pod(corev1.ConditionTrue, 300, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }), 0},
		"announced, and finished": {pod(corev1.ConditionTrue, 300, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), 0},
	} {
		if got := remaining(tc.pod, now); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
