package lookup

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/storage"
)

// TestTail: a tail tells what changed since it was asked last, each change once, and all there is when history was lost.
func TestTail(t *testing.T) {
	reg, _, run := cached(t)
	run()
	ctx := t.Context()

	have := map[string]bool{} // what the tail told
	told, resets := 0, 0
	tail := New(reg).Tail(core("namespaces"), storage.Selector{Labels: labels.SelectorFromSet(labels.Set{"watched": "yes"})})
	pull := func() {
		t.Helper()
		err := tail.Pull(ctx, func() { resets++; clear(have) }, func(e storage.Event) {
			told++
			have[e.Entry.Key.Name] = true
			if e.Type == storage.Deleted {
				delete(have, e.Entry.Key.Name)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !tail.Behind() {
		t.Fatal("nothing to pull at first")
	}
	pull() // the kind is not there yet
	if tail.Behind() || resets != 1 {
		t.Fatalf("a kind that is not registered: behind %v, %d resets", tail.Behind(), resets)
	}
	if err := reg.Add(registry.Define(registry.Kind[*corev1.Namespace]{Version: "v1", Kind: "Namespace", Plural: "namespaces"})); err != nil {
		t.Fatal(err)
	}
	store := reg.Find(core("namespaces")).Store
	put := func(name, watched string) *storage.Entry {
		t.Helper()
		value, err := codec.Marshal(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"watched": watched}}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := store.Create(ctx, storage.Key{Name: name}, value, 0)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	until := func(want string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			if tail.Behind() {
				pull()
			}
			got := strings.Join(slices.Sorted(maps.Keys(have)), " ")
			if got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("told %q, want %q", got, want)
			}
		}
	}
	first := put("a", "yes")
	put("b", "no")
	until("a")
	put("c", "yes")
	until("a c")
	if _, err := store.Delete(ctx, first.Key, first.Revision); err != nil {
		t.Fatal(err)
	}
	until("c")
	last := put("d", "yes")
	if err := tail.Newest(ctx); err != nil {
		t.Fatal(err)
	}
	if pull(); !have["d"] {
		t.Error("what was acknowledged is not told")
	}
	if _, err := store.Delete(ctx, last.Key, last.Revision); err != nil {
		t.Fatal(err)
	}
	until("c")
	before := told
	pull()
	if told != before {
		t.Errorf("%d changes are told twice", told-before)
	}

	gone, leave := context.WithCancel(ctx)
	leave()
	want := []string{"c"}
	for i := range 600 {
		name := fmt.Sprintf("n%03d", i)
		put(name, "yes")
		want = append(want, name)
	}
	// A caller who went away takes nothing from the next one.
	if err := tail.Pull(gone, func() { resets++; clear(have) }, func(e storage.Event) { have[e.Entry.Key.Name] = true }); err != nil {
		t.Errorf("for a caller who went away: %v", err)
	}
	until(strings.Join(want, " "))

	reg.Remove(core("namespaces"))
	if !tail.Behind() {
		t.Error("nothing to pull when the kind goes")
	}
	pull()
	if len(have) != 0 || tail.Behind() {
		t.Errorf("of a kind that is gone %d are left, behind %v", len(have), tail.Behind())
	}
}
