package resourcequota

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/quota"
)

// amounts reads name=amount,…
func amounts(t *testing.T, text string) corev1.ResourceList {
	t.Helper()
	l := corev1.ResourceList{}
	for pair := range strings.SplitSeq(text, ",") {
		if name, amount, ok := strings.Cut(pair, "="); ok {
			l[corev1.ResourceName(name)] = resource.MustParse(amount)
		}
	}
	return l
}

func TestNext(t *testing.T) {
	for _, tc := range []struct {
		name                            string
		hard, used, there, gone, lately string
		unknown                         bool
		want                            string
	}{
		{"never reckoned", "pods=10,memory=1Gi", "", "pods=3,memory=100Mi", "", "", true, "pods=3,memory=100Mi"},
		{"more is there than was charged", "pods=10", "pods=2", "pods=3", "", "", true, "pods=3"},
		{"one was seen to go", "pods=10", "pods=3", "pods=2", "pods=1", "pods=3", false, "pods=2"},
		{"one was seen to go and one is on its way", "pods=10", "pods=4", "pods=2", "pods=1", "pods=4", false, "pods=3"},
		{"some are on their way", "pods=10", "pods=5", "pods=3", "", "pods=2", false, "pods=5"},
		{"of what is nobody's, all but what may be on its way", "pods=10", "pods=9", "pods=3", "", "pods=2", false, "pods=5"},
		{"nobody's", "pods=10", "pods=5", "pods=3", "", "", false, "pods=3"},
		{"perhaps somebody's", "pods=10", "pods=5", "pods=3", "", "", true, "pods=5"},
		{"perhaps somebody's, but for one that was seen to go", "pods=10", "pods=5", "pods=3", "pods=1", "", true, "pods=4"},
		{"never less than there is", "pods=10", "pods=5", "pods=4", "pods=3", "", false, "pods=4"},
		{"what the quota names no more", "pods=10", "pods=1,secrets=2", "pods=1", "", "", false, "pods=1"},
		{"what nobody uses up", "pods=10,count/foos=1", "pods=1", "pods=1", "", "", false, "pods=1"},
		{"what is not listed yet", "pods=10,secrets=9", "pods=1,secrets=5", "pods=1", "", "", false, "pods=1,secrets=5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: amounts(t, tc.hard)}, Status: corev1.ResourceQuotaStatus{Used: amounts(t, tc.used)}}
			got := next(q, amounts(t, tc.there), account{gone: amounts(t, tc.gone), lately: amounts(t, tc.lately), unknown: tc.unknown})
			if !quota.Equal(got, amounts(t, tc.want)) {
				t.Errorf("got %s, want %s", quota.Text(got), tc.want)
			}
		})
	}
}

func TestBooks(t *testing.T) {
	k := loop.Key{Namespace: "a", Name: "q"}
	start := time.Unix(1_000_000, 0)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	one := func(n string) corev1.ResourceList { return amounts(t, "pods="+n) }
	b := newBooks()
	if a := b.read(k, start); !a.unknown || b.has("a") {
		t.Error("something is known of a quota without a book")
	}
	b.open(k, false, start)
	b.raised(k, one("1"), at(1))
	b.raised(k, one("2"), at(1.5)) // in the same second
	b.raised(k, one("4"), at(30))
	b.raised(k, nil, at(31))
	b.freed(k, one("3"))
	for _, tc := range []struct {
		at      float64
		lately  string
		unknown bool
		until   float64
	}{
		{31, "pods=7", true, 30 + 72}, {71, "pods=7", false, 30 + 72}, {73, "pods=4", false, 30 + 72}, {103, "", false, 0},
	} {
		a := b.read(k, at(tc.at))
		if !quota.Equal(a.lately, amounts(t, tc.lately)) || a.unknown != tc.unknown || tc.until > 0 != !a.until.IsZero() || tc.until > 0 && !a.until.Equal(at(tc.until)) {
			t.Errorf("after %v s: %+v, want %+v", tc.at, a, tc)
		}
		if !quota.Equal(a.gone, one("3")) {
			t.Errorf("gone: %s", quota.Text(a.gone))
		}
	}
	b.returned(k, one("2"))
	if a := b.read(k, at(200)); !quota.Equal(a.gone, one("1")) {
		t.Errorf("after two of three were given back: %s", quota.Text(a.gone))
	}
	b.returned(k, one("2"))
	if a := b.read(k, at(200)); len(a.gone) != 0 {
		t.Errorf("after more than there was: %s", quota.Text(a.gone))
	}
	b.added("a")
	b.added("b")
	if got := b.takeAdded(); !slices.Equal(got, []loop.Key{k}) || b.takeAdded() != nil {
		t.Errorf("where something was made: %v", got)
	}
	if !b.writeOff("pod") || b.writeOff("pod") || !b.isWrittenOff("pod") {
		t.Error("a pod is written off once")
	}
	b.forget("pod")
	b.close(k)
	if b.has("a") || b.isWrittenOff("pod") || len(b.by) != 0 {
		t.Error("something is left")
	}
	b.open(k, true, start)
	if b.read(k, start).unknown {
		t.Error("a fresh quota was charged before it was there")
	}
}

func TestTally(t *testing.T) {
	type told struct {
		namespace string
		gone      string
	}
	var got []told
	full := 0
	tells := listener{
		changed: func(_ schema.GroupResource, ns string, gone corev1.ResourceList) {
			got = append(got, told{ns, quota.Text(gone)})
		},
		full: func() { full++ },
	}
	y := newTally(schema.GroupResource{Group: "apps", Resource: "replicasets"}, tells, func() {})
	o := func(ns, name, uid string) any {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID(uid)}}
	}
	const gone = "count/replicasets.apps=1"
	for _, step := range []struct {
		name string
		do   func() error
		told []told
		a    string // in namespace a; empty: not listed
	}{
		{"nothing yet", func() error { return nil }, nil, ""},
		{"the list", func() error { return y.Replace([]any{o("a", "x", "1"), o("a", "y", "2"), o("b", "x", "3")}, "5") }, nil, "2"},
		{"one more", func() error { return y.Add(o("a", "z", "4")) }, []told{{"a", ""}}, "3"},
		{"one changed", func() error { return y.Update(o("a", "z", "4")) }, nil, "3"},
		{"one made anew unseen", func() error { return y.Update(o("a", "z", "5")) }, []told{{"a", gone}}, "3"},
		{"one gone", func() error { return y.Delete(o("a", "z", "5")) }, []told{{"a", gone}}, "2"},
		{"gone again", func() error { return y.Delete(o("a", "z", "5")) }, nil, "2"},
		{"another list", func() error { return y.Replace([]any{o("a", "x", "9"), o("b", "x", "3")}, "9") }, []told{{"a", gone}, {"a", gone}}, "1"},
	} {
		got = nil
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if !slices.Equal(got, step.told) {
			t.Errorf("%s: told %v, want %v", step.name, got, step.told)
		}
		sum, state := y.count("a")
		if (state == listed) != (step.a != "") || state == listed && quota.Text(sum) != "count/replicasets.apps="+step.a {
			t.Errorf("%s: %s (%v), want %s", step.name, quota.Text(sum), state, step.a)
		}
	}
	if full != 1 {
		t.Errorf("it was full for the first time %d times", full)
	}
	if err := y.Add(&corev1.Binding{}); err != nil {
		t.Errorf("any object has metadata: %v", err)
	}
	if y.Add("nonsense") == nil || y.Delete("nonsense") == nil || y.Replace([]any{"nonsense"}, "") == nil {
		t.Error("nonsense is counted")
	}
	if _, state := (&tally{}).count("a"); state != absent {
		t.Errorf("what is not served is %v", state)
	}
}
