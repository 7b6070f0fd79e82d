package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/apiserver/storage"
)

func testWatchFrom(t *T) {
	k := key("ns", "a")
	one := t.create(t.pods, k, Object{Data: "1"})
	two := t.update(t.pods, k, Object{Data: "2"}, one.Revision)
	t.create(t.nodes, key("", "n"), Object{})
	w := t.watch(t.pods, storage.WatchOptions{Read: notOlder(one.Revision)})
	t.expect(w, said(storage.Modified, two))
	three := t.update(t.pods, k, Object{Data: "3"}, two.Revision)
	gone := t.delete(t.pods, k, three.Revision)
	four := t.create(t.pods, k, Object{Data: "4"})
	t.expect(w, said(storage.Modified, three), saidAt(storage.Deleted, k, gone.Revision, Object{Data: "3"}), said(storage.Added, four))
	late := t.watch(t.pods, storage.WatchOptions{Read: notOlder(three.Revision)})
	t.expect(late, saidAt(storage.Deleted, k, gone.Revision, Object{Data: "3"}), said(storage.Added, four))
	future := t.watch(t.pods, storage.WatchOptions{Read: notOlder(four.Revision + 1)})
	t.update(t.pods, k, Object{Data: "not told"}, four.Revision)
	five := t.create(t.pods, key("ns", "b"), Object{})
	t.expect(future, said(storage.Added, five))
}

func testWatchNow(t *T) {
	one := t.create(t.pods, key("ns", "a"), Object{Data: "1"})
	w := t.watch(t.pods, storage.WatchOptions{})
	two := t.update(t.pods, key("ns", "a"), Object{Data: "2"}, one.Revision)
	t.expect(w, said(storage.Modified, two))
}

func testWatchInitial(t *T) {
	a := t.create(t.pods, key("ns", "a"), Object{Data: "1"})
	b := t.create(t.pods, key("ns", "b"), Object{Labels: labels.Set{"app": "x"}})
	c := t.create(t.pods, key("ns2", "c"), Object{Labels: labels.Set{"app": "x"}})
	w := t.watch(t.pods, storage.WatchOptions{Initial: true, Bookmarks: true})
	t.expect(w, said(storage.Added, a), said(storage.Added, b), said(storage.Added, c), "BOOKMARK end")
	d := t.create(t.pods, key("ns", "d"), Object{})
	t.expect(w, said(storage.Added, d))
	x := labels.SelectorFromSet(labels.Set{"app": "x"})
	w = t.watch(t.pods, storage.WatchOptions{Initial: true, Bookmarks: true, Selector: storage.Selector{Namespace: "ns", Labels: x}})
	t.expect(w, said(storage.Added, b), "BOOKMARK end")
	w = t.watch(t.pods, storage.WatchOptions{Initial: true, Read: notOlder(d.Revision)})
	t.expect(w, said(storage.Added, a), said(storage.Added, b), said(storage.Added, d), said(storage.Added, c))
	gone := t.delete(t.pods, a.Key, a.Revision)
	t.expect(w, saidAt(storage.Deleted, a.Key, gone.Revision, Object{Data: "1"}))
	_, err := t.pods.Watch(t.ctx, storage.WatchOptions{Initial: true, Read: notOlder(gone.Revision + 1000)})
	t.want(err, storage.ErrTooNew)
	// Nothing there: the bookmark comes all the same, and says where the watch stands.
	none := t.watch(t.pods, storage.WatchOptions{Initial: true, Bookmarks: true, Selector: storage.Selector{Namespace: "none"}})
	evs, err := none.Next(t.ctx)
	t.must(err)
	if len(evs) != 1 || !evs[0].InitialEnd || evs[0].Revision < gone.Revision {
		t.Fatalf("initial events of nothing: %+v", evs)
	}
}

// A watch says once that it has told what there was, as soon as there is nothing more to tell.
func testWatchBegun(t *T) {
	a := t.create(t.pods, key("ns", "a"), Object{})
	for _, initial := range []bool{true, false} {
		begun := make(chan struct{}, 3)
		w := t.watch(t.pods, storage.WatchOptions{Initial: initial, Begun: func() { begun <- struct{}{} }})
		if initial {
			if t.expect(w, said(storage.Added, a)); len(begun) > 0 {
				t.Fatal("begun before the initial events were taken")
			}
		}
		told := make(chan error, 1)
		go func() {
			_, err := w.Next(t.ctx)
			told <- err
		}()
		select {
		case <-begun:
		case <-t.ctx.Done():
			t.Fatal("not begun though nothing more is there")
		}
		b := t.create(t.pods, key("ns", "b"), Object{})
		t.must(<-told)
		gone := t.delete(t.pods, b.Key, b.Revision)
		if t.expect(w, saidAt(storage.Deleted, b.Key, gone.Revision, Object{})); len(begun) > 0 {
			t.Fatal("begun twice")
		}
	}
}

func testWatchNarrow(t *T) {
	on := func(n string) Object { return Object{Fields: fields.Set{"spec.nodeName": n}} }
	a := t.create(t.pods, key("ns", "a"), on(""))
	b := t.create(t.pods, key("ns", "b"), on("n2"))
	object := t.watch(t.pods, storage.WatchOptions{Selector: storage.Selector{Namespace: "ns", Name: "a"}})
	byName := t.watch(t.pods, storage.WatchOptions{Selector: storage.Selector{Namespace: "ns", Fields: fields.OneTermEqualSelector("metadata.name", "a")}})
	space := t.watch(t.pods, storage.WatchOptions{Selector: storage.Selector{Namespace: "other"}})
	n1 := t.watch(t.pods, storage.WatchOptions{Selector: storage.Selector{Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}})
	homeless := t.watch(t.pods, storage.WatchOptions{Selector: storage.Selector{Fields: fields.OneTermEqualSelector("spec.nodeName", "")}})
	a2 := t.update(t.pods, a.Key, on("n1"), a.Revision)
	b2 := t.update(t.pods, b.Key, on("n1"), b.Revision)
	c := t.create(t.pods, key("other", "a"), on("n1"))
	b3 := t.update(t.pods, b.Key, on("n3"), b2.Revision)
	goneA := t.delete(t.pods, a.Key, a2.Revision)
	t.expect(object, said(storage.Modified, a2), saidAt(storage.Deleted, a.Key, goneA.Revision, on("n1")))
	t.expect(byName, said(storage.Modified, a2), saidAt(storage.Deleted, a.Key, goneA.Revision, on("n1")))
	t.expect(space, said(storage.Added, c))
	t.expect(n1, said(storage.Added, a2), said(storage.Added, b2), said(storage.Added, c),
		saidAt(storage.Deleted, b.Key, b3.Revision, on("n1")), saidAt(storage.Deleted, a.Key, goneA.Revision, on("n1")))
	t.expect(homeless, saidAt(storage.Deleted, a.Key, a2.Revision, on("")))
	// The same from the past.
	n1 = t.watch(t.pods, storage.WatchOptions{Read: notOlder(a2.Revision), Selector: storage.Selector{Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}})
	t.expect(n1, said(storage.Added, b2), said(storage.Added, c),
		saidAt(storage.Deleted, b.Key, b3.Revision, on("n1")), saidAt(storage.Deleted, a.Key, goneA.Revision, on("n1")))
}

func testWatchTransitions(t *T) {
	app := func(v, data string) Object { return Object{Labels: labels.Set{"app": v}, Data: data} }
	w := t.watch(t.pods, storage.WatchOptions{Selector: storage.Selector{Labels: labels.SelectorFromSet(labels.Set{"app": "x"})}})
	k := key("ns", "a")
	one := t.create(t.pods, k, app("y", "1"))               // does not match: not told
	two := t.update(t.pods, k, app("x", "2"), one.Revision) // comes in
	three := t.update(t.pods, k, app("x", "3"), two.Revision)
	four := t.update(t.pods, k, app("y", "4"), three.Revision) // leaves
	five := t.update(t.pods, k, app("y", "5"), four.Revision)
	t.delete(t.pods, k, five.Revision) // not told
	six := t.create(t.pods, k, app("x", "6"))
	gone := t.delete(t.pods, k, six.Revision)
	t.expect(w, said(storage.Added, two), said(storage.Modified, three), saidAt(storage.Deleted, k, four.Revision, app("x", "3")),
		said(storage.Added, six), saidAt(storage.Deleted, k, gone.Revision, app("x", "6")))
}

// testWatchBookmarks needs a subject that was told to send them every 100 ms.
func testWatchBookmarks(t *T) {
	w := t.watch(t.pods, storage.WatchOptions{Bookmarks: true})
	e := t.create(t.pods, key("ns", "a"), Object{})
	other := t.create(t.nodes, key("", "n"), Object{})
	if _, err := t.pods.List(t.ctx, storage.ListOptions{}); err != nil { // a cache knows of the other kind's revision now
		t.Fatal(err)
	}
	at := int64(0)
	for at < other.Revision {
		evs, err := w.Next(t.ctx)
		t.must(err)
		for _, ev := range evs {
			if ev.Revision < at {
				t.Fatalf("the watch went back from %d to %d", at, ev.Revision)
			}
			if ev.Type == storage.Bookmark && ev.Revision >= e.Revision && at < e.Revision {
				t.Fatalf("bookmark at %d before the event of %d", ev.Revision, e.Revision)
			}
			at = ev.Revision
		}
	}
}

func testWatchEnds(t *T) {
	w := t.watch(t.pods, storage.WatchOptions{})
	ctx, cancel := context.WithCancel(t.ctx)
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := w.Next(ctx)
	t.want(err, context.Canceled)
	e := t.create(t.pods, key("ns", "a"), Object{})
	t.expect(w, said(storage.Added, e)) // the context was of the call, not of the watch
	time.AfterFunc(20*time.Millisecond, w.Close)
	if evs, err := w.Next(t.ctx); err == nil {
		t.Fatalf("closed watch told %v", evs)
	}
	w.Close()
	ctx, cancel = context.WithCancel(t.ctx)
	w, err = t.pods.Watch(ctx, storage.WatchOptions{})
	t.must(err)
	cancel() // only of the start
	e = t.create(t.pods, key("ns", "b"), Object{})
	t.expect(w, said(storage.Added, e))
	w.Close()
}

// testWatchCompacted allows an implementation to remember longer than etcd, but not to lose anything.
func testWatchCompacted(t *T) {
	one := t.create(t.pods, key("ns", "a"), Object{})
	two := t.create(t.pods, key("ns", "b"), Object{})
	three := t.create(t.pods, key("ns", "c"), Object{})
	t.must(t.s.Compact(t.ctx, three.Revision))
	w, err := t.pods.Watch(t.ctx, storage.WatchOptions{Read: notOlder(one.Revision)})
	if err == nil {
		defer w.Close()
		var evs []storage.Event
		if evs, err = w.Next(t.ctx); err == nil {
			t.same("first event", tell(evs[0]), said(storage.Added, two))
			return
		}
	}
	t.want(err, storage.ErrCompacted)
}

// testHistory writes at random and compares what watches with different selectors and starts tell with what the writers
// were told.
func testHistory(t *T) {
	h := &history{}
	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	selectors := []storage.Selector{
		{},
		{Namespace: "ns1"},
		{Labels: labels.SelectorFromSet(labels.Set{"l": "1"})},
		{Fields: fields.OneTermEqualSelector("f", "1")},
		{Namespace: "ns0", Fields: fields.OneTermEqualSelector("metadata.name", "p3")},
		{Namespace: "ns1", Fields: fields.ParseSelectorOrDie("f!=2"), Labels: labels.SelectorFromSet(labels.Set{"l": "0"})},
	}
	start := t.list(t.written, storage.ListOptions{}).Revision
	type run struct {
		sel   storage.Selector
		from  int64
		told  []string
		upTo  int64
		error error
	}
	var runs []*run
	follow := func(r *run) {
		w, err := t.pods.Watch(t.ctx, storage.WatchOptions{Selector: r.sel, Read: notOlder(r.from), Bookmarks: true})
		if err != nil {
			r.error = err
			return
		}
		defer w.Close()
		for end := stop; ; {
			ctx, cancel := context.WithTimeout(t.ctx, 2*time.Second)
			evs, err := w.Next(ctx)
			cancel()
			switch {
			case errors.Is(err, context.DeadlineExceeded):
			case err != nil:
				r.error = err
				return
			}
			for _, e := range evs {
				if e.Type != storage.Bookmark {
					r.told = append(r.told, tell(e))
				}
				r.upTo = e.Revision
			}
			select {
			case <-end:
				if last := h.last(); r.upTo >= last {
					return
				}
			default:
			}
		}
	}
	for g := range 3 {
		writers.Go(func() { h.write(t, rand.New(rand.NewPCG(1, uint64(g))), 120) })
	}
	for round := range 3 {
		for _, s := range selectors {
			r := &run{sel: s, from: max(start, h.some(round))}
			runs = append(runs, r)
			readers.Go(func() { follow(r) })
		}
		time.Sleep(20 * time.Millisecond) // rounds begin at different places of the history; nothing depends on where
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	for _, r := range runs {
		if r.error != nil {
			t.Fatalf("%+v from %d: %v", r.sel, r.from, r.error)
		}
		want := h.seen(&r.sel, r.from)
		if !slices.Equal(r.told, want) {
			i := 0
			for i < min(len(want), len(r.told)) && want[i] == r.told[i] {
				i++
			}
			t.Fatalf("%+v from %d: %d events, want %d; first difference at %d:\n got %q\nwant %q", r.sel, r.from,
				len(r.told), len(want), i, r.told[i:min(i+3, len(r.told))], want[i:min(i+3, len(want))])
		}
	}
}

// history is what writers were told, by revision.
type history struct {
	mu    sync.Mutex
	steps []step
}

type step struct {
	rev     int64
	key     storage.Key
	entry   *storage.Entry
	deleted bool
}

func (h *history) add(e *storage.Entry, deleted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps = append(h.steps, step{e.Revision, e.Key, e, deleted})
}

func (h *history) last() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := int64(0)
	for _, s := range h.steps {
		m = max(m, s.rev)
	}
	return m
}

// some is a revision of the past: from the beginning, the middle, the end.
func (h *history) some(i int) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.steps) == 0 {
		return 0
	}
	return h.steps[(len(h.steps)-1)*i/2].rev
}

func (h *history) write(t *T, rnd *rand.Rand, n int) {
	for range n {
		k := key(fmt.Sprintf("ns%d", rnd.IntN(2)), fmt.Sprintf("p%d", rnd.IntN(6)))
		o := Object{Labels: labels.Set{"l": fmt.Sprint(rnd.IntN(2))}, Fields: fields.Set{"f": fmt.Sprint(rnd.IntN(3))}, Data: fmt.Sprint(rnd.Uint32())}
		e, err := t.written.Get(t.ctx, k, storage.Read{})
		deleted := false
		switch {
		case errors.Is(err, storage.ErrNotFound):
			e, err = t.written.Create(t.ctx, k, o.Bytes(), 0)
		case err == nil && rnd.IntN(4) == 0:
			e, err = t.written.Delete(t.ctx, k, e.Revision)
			deleted = true
		case err == nil:
			e, err = t.written.Update(t.ctx, k, o.Bytes(), e.Revision, 0)
		}
		switch {
		case err == nil:
			h.add(e, deleted)
		case errors.Is(err, storage.ErrConflict), errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrExists):
		default:
			t.Error(err)
			return
		}
	}
}

// seen is what a watch of a selector after revision from must tell, by the plainest rules there are.
func (h *history) seen(sel *storage.Selector, from int64) []string {
	slices.SortFunc(h.steps, func(a, b step) int { return int(a.rev - b.rev) })
	state := map[storage.Key]*storage.Entry{}
	var out []string
	for _, s := range h.steps {
		was := state[s.key]
		var now *storage.Entry
		if s.deleted {
			delete(state, s.key)
		} else {
			now = s.entry
			state[s.key] = now
		}
		if s.rev <= from {
			continue
		}
		before, after := was != nil && sel.Matches(was), now != nil && sel.Matches(now)
		switch {
		case before && after:
			out = append(out, said(storage.Modified, now))
		case after:
			out = append(out, said(storage.Added, now))
		case before:
			out = append(out, said(storage.Deleted, &storage.Entry{Key: s.key, Revision: s.rev, Value: was.Value}))
		}
	}
	return out
}
