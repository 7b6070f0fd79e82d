// Package storagetest is the suite that every implementation of the storage contract must pass, on a real etcd
// (pkg/testcluster). It is called by the tests of storage/etcd and storage/watchcache, and imports neither.
package storagetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/apiserver/storage"
)

// Subject is one implementation under test, empty.
type Subject struct {
	storage.Backend
	Compact func(ctx context.Context, rev int64) error // of the database behind it
	Writes  storage.Backend                            // where History writes; nil: the subject itself
}

// Object is what the suite stores, as JSON.
type Object struct {
	Labels labels.Set `json:"labels,omitempty"`
	Fields fields.Set `json:"fields,omitempty"`
	Data   string     `json:"data,omitempty"`
}

// Bytes is the stored form.
func (o Object) Bytes() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return b
}

// Pods is the namespaced kind of the suite, Nodes the other.
func Pods() storage.Kind {
	return storage.Kind{Plural: "pods", Namespaced: true, Attrs: attrs}
}

func Nodes() storage.Kind {
	return storage.Kind{Group: "example.com", Plural: "nodes", Attrs: attrs}
}

func attrs(_ storage.Key, value []byte) (storage.Attrs, error) {
	var o Object
	err := json.Unmarshal(value, &o)
	return storage.Attrs{Labels: o.Labels, Fields: o.Fields}, err
}

// Test runs the whole suite; open makes an empty subject for one case.
func Test(t *testing.T, open func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		run  func(*T)
	}{
		{"create", testCreate},
		{"update", testUpdate},
		{"delete", testDelete},
		{"keys that cannot be", testBadKeys},
		{"revisions compare across kinds", testRevisions},
		{"too large", testTooLarge},
		{"get by freshness", testGetFreshness},
		{"list order and selectors", testList},
		{"list by freshness", testListFreshness},
		{"pages", testPages},
		{"pages of an old state", testPagesAreOneState},
		{"pages over a compaction", testPagesExpire},
		{"bad continue tokens", testBadTokens},
		{"watch from a revision", testWatchFrom},
		{"watch from now", testWatchNow},
		{"watch with initial events", testWatchInitial},
		{"watch that has begun", testWatchBegun},
		{"watch one object, one namespace, one node", testWatchNarrow},
		{"watch sees transitions", testWatchTransitions},
		{"watch bookmarks", testWatchBookmarks},
		{"watch ends", testWatchEnds},
		{"watch compacted history", testWatchCompacted},
		{"compare and swap under contention", testContention},
		{"reads see acknowledged writes", testReadYourWrites},
		{"watches tell the history", testHistory},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, open(t), c.run) })
	}
}

// History runs the case that compares what watches tell with what writers were told, for subjects in trouble.
func History(t *testing.T, s Subject) { run(t, s, testHistory) }

func run(t *testing.T, s Subject, f func(*T)) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	x := &T{TB: t, ctx: ctx, s: s, pods: s.Store(Pods()), nodes: s.Store(Nodes())}
	x.written = x.pods
	if s.Writes != nil {
		x.written = s.Writes.Store(Pods())
	}
	f(x)
}

// T is one case with its subject and the short words that cases are told in.
type T struct {
	testing.TB
	ctx         context.Context
	s           Subject
	pods, nodes storage.Store
	written     storage.Store // pods, where History writes them
}

func key(ns, name string) storage.Key { return storage.Key{Namespace: ns, Name: name} }

func (t *T) create(s storage.Store, k storage.Key, o Object) *storage.Entry {
	t.Helper()
	e, err := s.Create(t.ctx, k, o.Bytes(), 0)
	t.must(err)
	return e
}

func (t *T) update(s storage.Store, k storage.Key, o Object, expect int64) *storage.Entry {
	t.Helper()
	e, err := s.Update(t.ctx, k, o.Bytes(), expect, 0)
	t.must(err)
	return e
}

func (t *T) delete(s storage.Store, k storage.Key, expect int64) *storage.Entry {
	t.Helper()
	e, err := s.Delete(t.ctx, k, expect)
	t.must(err)
	return e
}

func (t *T) list(s storage.Store, o storage.ListOptions) *storage.Page {
	t.Helper()
	p, err := s.List(t.ctx, o)
	t.must(err)
	return p
}

func (t *T) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *T) want(err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want %v", err, target)
	}
}

func (t *T) same(what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%s: %s, want %s", what, g, w)
	}
}

// names tells a page as «namespace/name» each.
func names(p *storage.Page) []string {
	out := []string{}
	for _, e := range p.Entries {
		out = append(out, e.Key.String())
	}
	return out
}

// watch starts a watch that is closed at the end of the case.
func (t *T) watch(s storage.Store, o storage.WatchOptions) storage.Watcher {
	t.Helper()
	w, err := s.Watch(t.ctx, o)
	t.must(err)
	t.Cleanup(w.Close)
	return w
}

// tell says an event in one line.
func tell(e storage.Event) string {
	if e.Type == storage.Bookmark {
		if e.InitialEnd {
			return "BOOKMARK end"
		}
		return "BOOKMARK"
	}
	return fmt.Sprintf("%s %s@%d %s", e.Type, e.Entry.Key, e.Entry.Revision, e.Entry.Value)
}

// expect reads exactly these events and fails on any other.
func (t *T) expect(w storage.Watcher, want ...string) {
	t.Helper()
	var got []string
	ctx, cancel := context.WithTimeout(t.ctx, 20*time.Second)
	defer cancel()
	for len(got) < len(want) {
		evs, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		if len(evs) == 0 {
			t.Fatal("Next returned nothing")
		}
		for _, e := range evs {
			if e.Type != storage.Bookmark || e.InitialEnd { // the others come when their time comes
				got = append(got, tell(e))
			}
		}
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("event %d is %q, want %q\nall: %q", i, got[i], want[i], got)
		}
	}
	if len(got) > len(want) {
		t.Fatalf("more events than wanted: %q", got[len(want):])
	}
}

func said(typ storage.EventType, e *storage.Entry) string {
	return tell(storage.Event{Type: typ, Entry: e})
}

// saidAt is the Deleted event of an object that was o, at revision rev.
func saidAt(typ storage.EventType, k storage.Key, rev int64, o Object) string {
	return tell(storage.Event{Type: typ, Entry: &storage.Entry{Key: k, Revision: rev, Value: o.Bytes()}})
}

// read is the object of an entry that the suite stored.
func read(e *storage.Entry) Object {
	var o Object
	if err := json.Unmarshal(e.Value, &o); err != nil {
		panic(err)
	}
	return o
}
