package lookup

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/storage"
)

// TestView: a view follows its kind, and makes anew only what changed.
func TestView(t *testing.T) {
	reg, caches, run := cached(t, registry.Define(registry.Kind[*corev1.Namespace]{Version: "v1", Kind: "Namespace", Plural: "namespaces"}))
	run()
	ctx := t.Context()
	for end := time.Now().Add(30 * time.Second); caches.Ready() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(caches.Ready())
		}
	}

	parts, wholes := 0, 0
	v := NewView(New(reg), core("namespaces"),
		func(ns *corev1.Namespace) string { parts++; return ns.Name + "=" + ns.Labels["v"] },
		func(all []string) string { wholes++; return strings.Join(all, " ") })
	store := reg.Find(core("namespaces")).Store
	revisions := map[string]int64{}
	put := func(name, label string) {
		t.Helper()
		value, err := codec.Marshal(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"v": label}}})
		var e *storage.Entry
		if err == nil && revisions[name] == 0 {
			e, err = store.Create(ctx, storage.Key{Name: name}, value, 0)
		} else if err == nil {
			e, err = store.Update(ctx, storage.Key{Name: name}, value, revisions[name], 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		revisions[name] = e.Revision
	}
	until := func(want string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			got, err := v.Get(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("shows %q, want %q", got, want)
			}
		}
	}
	until("")
	for _, name := range []string{"b", "a", "c"} {
		put(name, "1")
	}
	until("a=1 b=1 c=1")
	if parts != 3 {
		t.Errorf("%d parts made of 3 objects", parts)
	}
	before := wholes
	for range 100 {
		until("a=1 b=1 c=1")
	}
	if wholes != before {
		t.Errorf("made %d times anew with nothing changed", wholes-before)
	}
	put("b", "2")
	until("a=1 b=2 c=1")
	if parts != 4 {
		t.Errorf("%d parts made, want one more than 3", parts)
	}
	if _, err := store.Delete(ctx, storage.Key{Name: "a"}, revisions["a"]); err != nil {
		t.Fatal(err)
	}
	until("b=2 c=1")
	if len(v.made) != 2 {
		t.Errorf("keeps %v", v.made)
	}
}

// TestViewWithoutCache: a store that does not count is asked each time; a kind that is not served is empty.
func TestViewWithoutCache(t *testing.T) {
	l := cluster(t, map[string][]codec.Object{"namespaces": {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}})
	name := func(ns *corev1.Namespace) string { return ns.Name }
	all := func(names []string) []string { return slices.Clone(names) }
	if got, err := NewView(l, core("namespaces"), name, all).Get(t.Context()); err != nil || fmt.Sprint(got) != "[a]" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := NewView(l, core("unknowns"), name, all).Get(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}
