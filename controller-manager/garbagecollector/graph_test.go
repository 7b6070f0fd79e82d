package garbagecollector

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

var things = &kind{gvr: schema.GroupVersionResource{Version: "v1", Resource: "things"}, name: "Thing", namespaced: true}

// thing makes an object named like its UID. Words: <owner, <owner! when it blocks, going, foreground, orphan.
func thing(uid, words string) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: uid, UID: types.UID(uid)}}
	for w := range strings.FieldsSeq(words) {
		switch {
		case w == "going":
			now := metav1.Now()
			o.DeletionTimestamp = &now
		case w == "foreground":
			o.Finalizers = append(o.Finalizers, metav1.FinalizerDeleteDependents)
		case w == "orphan":
			o.Finalizers = append(o.Finalizers, metav1.FinalizerOrphanDependents)
		case w[0] == '<':
			name := strings.Trim(w, "<!")
			blocks := strings.HasSuffix(w, "!")
			o.OwnerReferences = append(o.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "Thing", Name: name, UID: types.UID(name), BlockOwnerDeletion: &blocks})
		default:
			panic(w)
		}
	}
	return o
}

func text(uids []types.UID) string {
	var all []string
	for _, u := range uids {
		all = append(all, string(u))
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

// TestGraph plays stories: each line is an event, whom it wakes, and what the woken need.
func TestGraph(t *testing.T) {
	type event struct {
		put, words string // or
		drop       string
		wakes      string
		steps      string // of those woken, in order
	}
	steps := map[step]string{stepNone: "none", stepOrphan: "orphan", stepRelease: "release", stepJudge: "judge"}
	for name, story := range map[string][]event{
		"an owner comes before its dependent, and goes": {
			{put: "a"},
			{put: "b", words: "<a"},
			{drop: "a", wakes: "b", steps: "judge"},
			{drop: "b"},
		},
		"a dependent comes before its owner": {
			{put: "b", words: "<a", wakes: "b", steps: "judge"}, // is there an a? the API server must say
			{put: "a"},
			{put: "b", words: "<a"}, // a change of it is nobody's matter now
		},
		"a dependent comes after its owner went": {
			{put: "a"},
			{drop: "a"},
			{put: "b", words: "<a", wakes: "b", steps: "judge"},
		},
		"in the foreground, blocked": {
			{put: "a"},
			{put: "b", words: "<a!"},
			{put: "c", words: "<a"},
			{put: "a", words: "going foreground", wakes: "a b c", steps: "none judge judge"},
			{drop: "c", wakes: "a", steps: "none"}, // b still blocks
			{drop: "b", wakes: "a", steps: "release"},
			{put: "a", words: "going"},
			{drop: "a"},
		},
		"in the foreground, nothing blocks": {
			{put: "a"},
			{put: "c", words: "<a"},
			{put: "a", words: "going foreground", wakes: "a c", steps: "release judge"},
		},
		"in the foreground, the dependent loses its reference": {
			{put: "a"},
			{put: "b", words: "<a!"},
			{put: "a", words: "going foreground", wakes: "a b", steps: "none judge"},
			{put: "b", wakes: "a", steps: "release"},
		},
		"in the foreground, the dependent stops blocking": {
			{put: "a"},
			{put: "b", words: "<a!"},
			{put: "a", words: "going foreground", wakes: "a b", steps: "none judge"},
			{put: "b", words: "<a", wakes: "a b", steps: "release judge"},
		},
		"a dependent born while its owner is going": {
			{put: "a", words: "going foreground", wakes: "a", steps: "release"},
			{put: "b", words: "<a!", wakes: "b", steps: "judge"},
		},
		"orphaning": {
			{put: "a"},
			{put: "b", words: "<a"},
			{put: "a", words: "going orphan", wakes: "a", steps: "orphan"},
			{put: "b"},
			{put: "a", words: "going", wakes: ""},
			{drop: "a"},
		},
		"two owners, one goes": {
			{put: "a"},
			{put: "b"},
			{put: "c", words: "<a <b"},
			{drop: "a", wakes: "c", steps: "judge"},
		},
		"going itself, it waits for nobody's judgement": {
			{put: "a"},
			{put: "b", words: "<a going"},
			{drop: "a", wakes: "b", steps: "none"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGraph()
			for _, e := range story {
				var woken []types.UID
				what := "put " + e.put + " " + e.words
				if e.drop != "" {
					what = "drop " + e.drop
					woken = g.drop(types.UID(e.drop), true)
				} else {
					woken = g.put(things, thing(e.put, e.words))
				}
				if text(woken) != e.wakes {
					t.Fatalf("%s: wakes %q, want %q", what, text(woken), e.wakes)
				}
				var need []string
				for u := range strings.FieldsSeq(e.wakes) {
					v, ok := g.view(types.UID(u))
					if !ok {
						t.Fatalf("%s: %s is not in the graph", what, u)
					}
					need = append(need, steps[v.step()])
				}
				if got := strings.Join(need, " "); got != e.steps {
					t.Fatalf("%s: they need %q, want %q", what, got, e.steps)
				}
			}
		})
	}
}

func TestGraphForgets(t *testing.T) {
	g := newGraph()
	for _, o := range []*metav1.PartialObjectMetadata{thing("a", ""), thing("b", "<a <x"), thing("c", "<b")} {
		g.put(things, o)
	}
	for _, uid := range []types.UID{"a", "b", "c"} {
		g.drop(uid, true)
	}
	if n := g.size(); n != 0 {
		t.Errorf("%d nodes are left", n)
	}
	for i := range remembered + 10 {
		g.drop(types.UID(strconv.Itoa(i)), true)
	}
	if n := len(g.gone); n > remembered {
		t.Errorf("remembers %d deletions", n)
	}
}

func TestOwnersAcrossNamespacesAreAskedFor(t *testing.T) {
	g := newGraph()
	g.put(things, thing("a", ""))
	b := thing("b", "<a")
	b.Namespace = "elsewhere"
	if woken := g.put(things, b); text(woken) != "b" {
		t.Errorf("wakes %q", text(woken))
	}
	if v, _ := g.view("b"); v.step() != stepJudge {
		t.Error("takes an owner of another namespace for its own")
	}
}

func TestVerdict(t *testing.T) {
	ref := func(names string) (refs []metav1.OwnerReference) {
		for n := range strings.FieldsSeq(names) {
			yes := true
			refs = append(refs, metav1.OwnerReference{Name: n, UID: types.UID(n), BlockOwnerDeletion: &yes})
		}
		return refs
	}
	one := view{dependents: []identity{{}}}
	circle := view{dependents: []identity{{}}, circular: true}
	for name, tc := range map[string]struct {
		solid, dangling, waiting string
		finalizers               []string
		view                     view
		do                       action
		policy                   metav1.DeletionPropagation
		owners                   int
	}{
		"its owners are there":                   {solid: "a b", do: keep},
		"one is gone":                            {solid: "a", dangling: "b", do: unref, owners: 1},
		"one waits, but another is there":        {solid: "a", waiting: "b", do: unref, owners: 1},
		"all are gone":                           {dangling: "a b", do: remove, policy: metav1.DeletePropagationBackground},
		"one waits":                              {waiting: "a", do: remove, policy: metav1.DeletePropagationBackground},
		"one waits, and it has dependents":       {waiting: "a", view: one, do: remove, policy: metav1.DeletePropagationForeground},
		"one waits in a circle":                  {waiting: "a", view: circle, do: remove, policy: metav1.DeletePropagationForeground, owners: 1},
		"gone, its dependents are to be orphans": {dangling: "a", finalizers: []string{metav1.FinalizerOrphanDependents}, view: one, do: remove, policy: metav1.DeletePropagationOrphan},
		"gone, its dependents are to go first":   {dangling: "a", finalizers: []string{metav1.FinalizerDeleteDependents}, view: one, do: remove, policy: metav1.DeletePropagationForeground},
	} {
		t.Run(name, func(t *testing.T) {
			j := verdict(owners{ref(tc.solid), ref(tc.dangling), ref(tc.waiting)}, tc.finalizers, tc.view)
			if j.do != tc.do || j.policy != tc.policy || len(j.owners) != tc.owners {
				t.Errorf("%+v", j)
			}
			for _, o := range j.owners {
				if j.do == remove && o.BlockOwnerDeletion != nil {
					t.Error("the circle is not broken")
				}
			}
		})
	}
}

func TestStoreTakesOverAfterARelist(t *testing.T) {
	g := newGraph()
	var woken []types.UID
	s := &store{graph: g, kind: things, uids: map[string]types.UID{}, wake: func(k loop.Key) { woken = append(woken, types.UID(k.Name)) }, changed: func() {}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Replace([]any{thing("a", ""), thing("b", "<a")}, "1"))
	again := thing("a2", "")
	again.Name = "a" // a was deleted and made again while the watch was down
	woken = nil
	must(s.Replace([]any{again, thing("b", "<a")}, "2"))
	if v, _ := g.view("b"); !slices.Contains(woken, "b") || v.step() != stepJudge {
		t.Errorf("woke %q", text(woken))
	}
	woken = nil
	must(s.Replace([]any{again}, "3"))
	if _, there := g.view("b"); there {
		t.Error("b is still in the graph")
	}
	if err := s.Add("no object"); err == nil {
		t.Error("takes in what is no object")
	}
}
