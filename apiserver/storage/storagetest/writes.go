package storagetest

import (
	"errors"
	"strings"
	"sync"

	"pilothouse.dev/apiserver/storage"
)

func testCreate(t *T) {
	k, o := key("ns", "a"), Object{Labels: map[string]string{"app": "x"}, Data: "1"}
	e := t.create(t.pods, k, o)
	t.same("key", e.Key, k)
	t.same("value", string(e.Value), string(o.Bytes()))
	t.same("labels", e.Attrs.Labels, o.Labels)
	if e.Revision <= 0 {
		t.Fatalf("revision %d", e.Revision)
	}
	_, err := t.pods.Create(t.ctx, k, o.Bytes(), 0)
	t.want(err, storage.ErrExists)
	got, err := t.pods.Get(t.ctx, k, storage.Read{})
	t.must(err)
	t.same("read", said(storage.Added, got), said(storage.Added, e))
	t.same("labels read", got.Attrs.Labels, o.Labels)
}

func testUpdate(t *T) {
	k := key("ns", "a")
	_, err := t.pods.Update(t.ctx, k, Object{}.Bytes(), 1, 0)
	t.want(err, storage.ErrNotFound)
	_, err = t.pods.Update(t.ctx, k, Object{}.Bytes(), 0, 0)
	t.want(err, storage.ErrNotFound) // revision 0 creates nothing
	one := t.create(t.pods, k, Object{Data: "1"})
	two := t.update(t.pods, k, Object{Data: "2"}, one.Revision)
	if two.Revision <= one.Revision {
		t.Fatalf("revision went from %d to %d", one.Revision, two.Revision)
	}
	_, err = t.pods.Update(t.ctx, k, Object{Data: "3"}.Bytes(), one.Revision, 0)
	t.want(err, storage.ErrConflict)
	var c *storage.Conflict
	if !errors.As(err, &c) {
		t.Fatalf("%v carries no Conflict", err)
	}
	t.same("current", tell(storage.Event{Type: "is", Entry: c.Current}), tell(storage.Event{Type: "is", Entry: two}))
	got, err := t.pods.Get(t.ctx, k, storage.Read{})
	t.must(err)
	t.same("after the refusal", string(got.Value), string(two.Value))
}

func testDelete(t *T) {
	k := key("ns", "a")
	_, err := t.pods.Delete(t.ctx, k, 1)
	t.want(err, storage.ErrNotFound)
	one := t.create(t.pods, k, Object{Data: "1"})
	two := t.update(t.pods, k, Object{Data: "2"}, one.Revision)
	_, err = t.pods.Delete(t.ctx, k, one.Revision)
	t.want(err, storage.ErrConflict)
	var c *storage.Conflict
	if !errors.As(err, &c) || c.Current.Revision != two.Revision {
		t.Fatalf("%v: current is not revision %d", err, two.Revision)
	}
	gone := t.delete(t.pods, k, two.Revision)
	t.same("last state", string(gone.Value), string(two.Value))
	if gone.Revision <= two.Revision {
		t.Fatalf("deletion is at %d, not after %d", gone.Revision, two.Revision)
	}
	_, err = t.pods.Get(t.ctx, k, storage.Read{})
	t.want(err, storage.ErrNotFound)
	again := t.create(t.pods, k, Object{Data: "3"})
	if again.Revision <= gone.Revision {
		t.Fatalf("created again at %d, not after %d", again.Revision, gone.Revision)
	}
}

func testBadKeys(t *T) {
	for _, k := range []storage.Key{key("ns", ""), key("", "a"), key("ns", "a/b"), key("n/s", "a"), key("ns", "a\x00")} {
		_, err := t.pods.Get(t.ctx, k, storage.Read{})
		t.want(err, storage.ErrNotFound)
		if _, err = t.pods.Create(t.ctx, k, Object{}.Bytes(), 0); err == nil {
			t.Fatalf("%q was stored", k)
		}
	}
	if _, err := t.nodes.Create(t.ctx, key("ns", "a"), Object{}.Bytes(), 0); err == nil {
		t.Fatal("a node in a namespace was stored")
	}
	t.same("pods", names(t.list(t.pods, storage.ListOptions{})), "[]")
}

func testRevisions(t *T) {
	a := t.create(t.pods, key("ns", "a"), Object{})
	b := t.create(t.nodes, key("", "a"), Object{})
	c := t.create(t.pods, key("ns", "b"), Object{})
	if a.Revision >= b.Revision || b.Revision >= c.Revision {
		t.Fatalf("revisions %d, %d, %d do not ascend", a.Revision, b.Revision, c.Revision)
	}
	// A kind that stood still is at the newest revision too.
	if p := t.list(t.nodes, storage.ListOptions{}); p.Revision < c.Revision {
		t.Fatalf("nodes are listed at %d, but %d was acknowledged", p.Revision, c.Revision)
	}
}

func testTooLarge(t *T) {
	for _, size := range []int{1792 << 10, 2 << 20, 8 << 20} { // refused by etcd, by its transport, and far over both
		_, err := t.pods.Create(t.ctx, key("ns", "a"), Object{Data: strings.Repeat("x", size)}.Bytes(), 0)
		t.want(err, storage.ErrTooLarge)
	}
}

// testContention has writers count one object up by compare and swap: no step may be lost.
func testContention(t *T) {
	const writers, steps = 8, 20
	k := key("ns", "counter")
	t.create(t.pods, k, Object{Data: ""})
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for range writers {
		wg.Go(func() {
			e, err := t.pods.Get(t.ctx, k, storage.Cached)
			if errors.Is(err, storage.ErrNotFound) { // not yet in a cache
				e, err = t.pods.Get(t.ctx, k, storage.Read{})
			}
			for done := 0; done < steps && err == nil; {
				o := Object{Data: "x"}
				o.Data += read(e).Data
				var next *storage.Entry
				next, err = t.pods.Update(t.ctx, k, o.Bytes(), e.Revision, 0)
				var c *storage.Conflict
				if errors.As(err, &c) {
					e, err = c.Current, nil
					continue
				}
				e = next
				done++
			}
			errs <- err
		})
	}
	wg.Wait()
	for range writers {
		t.must(<-errs)
	}
	e, err := t.pods.Get(t.ctx, k, storage.Read{})
	t.must(err)
	t.same("count", len(read(e).Data), writers*steps)
}
