package watchcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/storagetest"
	"pilothouse.dev/pkg/testcluster"
)

// link is a TCP proxy to etcd that can be cut: what the cache sees of a network that fails.
type link struct {
	net.Listener
	to    string
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newLink(t *testing.T, e *testcluster.Etcd) (*link, *testcluster.Etcd) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{Listener: l, to: strings.TrimPrefix(e.Endpoint, "http://"), conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { k.carry(in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		k.set(true)
		wg.Wait()
	})
	return k, &testcluster.Etcd{Endpoint: "http://" + l.Addr().String()}
}

func (k *link) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", k.to)
	if err != nil {
		return
	}
	defer out.Close()
	k.mu.Lock()
	if k.cut {
		k.mu.Unlock()
		return
	}
	k.conns[in], k.conns[out] = true, true
	k.mu.Unlock()
	go func() { _, _ = io.Copy(out, in); out.Close() }() // ends with either side, as does the other
	_, _ = io.Copy(in, out)
	k.mu.Lock()
	delete(k.conns, in)
	delete(k.conns, out)
	k.mu.Unlock()
}

// set cuts the link or mends it.
func (k *link) set(cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = cut
	if cut {
		for c := range k.conns {
			c.Close()
		}
	}
}

func obj(data string) []byte { return storagetest.Object{Data: data}.Bytes() }

func k(name string) storage.Key { return storage.Key{Namespace: "ns", Name: name} }

// until repeats try until it is true or a generous time is over.
func until(t *testing.T, what string, try func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !try(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in 30 s: " + what)
		}
	}
}

// next reads events until one of the wanted type and name comes, and fails on any other kind of end.
func next(t *testing.T, w storage.Watcher, typ storage.EventType, name, data string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		evs, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("waiting for %s %s: %v", typ, name, err)
		}
		// A bookmark may come in one batch with it: there is one every 100 ms here.
		evs = slices.DeleteFunc(slices.Clone(evs), func(e storage.Event) bool { return e.Type == storage.Bookmark })
		if len(evs) == 0 {
			continue
		}
		if e := evs[0]; len(evs) > 1 || e.Type != typ || e.Entry.Key.Name != name || string(e.Entry.Value) != string(obj(data)) {
			t.Fatalf("told %d events, first %s %s %s, want only %s %s %s", len(evs), e.Type, e.Entry.Key, e.Entry.Value, typ, name, data)
		}
		return
	}
}

func TestEtcdKilledAndRestarted(t *testing.T) {
	ctx, server := t.Context(), testcluster.StartEtcd(t)
	c := runCaches(t, openDB(t, server), storagetest.Pods(), storagetest.Nodes())
	c.fresh.timeout = 300 * time.Millisecond
	pods := c.Store(storagetest.Pods())
	loaded(t, c)
	e, err := pods.Create(ctx, k("a"), obj("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pods.Watch(ctx, storage.WatchOptions{Bookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 2 {
		server.Kill()
		if got, err := pods.Get(ctx, k("a"), storage.Cached); err != nil || got.Revision != e.Revision {
			t.Fatalf("cached read without etcd: %v, %v", got, err)
		}
		if p, err := pods.List(ctx, storage.ListOptions{Read: storage.Cached}); err != nil || len(p.Entries) != 1 {
			t.Fatalf("cached list without etcd: %v, %v", p, err)
		}
		if w, err := pods.Watch(ctx, storage.WatchOptions{Initial: true, Read: storage.Cached}); err != nil {
			t.Fatalf("cached watch without etcd: %v", err)
		} else {
			next(t, w, storage.Added, "a", string(read(t, e)))
			w.Close()
		}
		for what, err := range map[string]error{
			"consistent read":  second(pods.Get(ctx, k("a"), storage.Read{})),
			"consistent list":  second(pods.List(ctx, storage.ListOptions{})),
			"consistent watch": second(pods.Watch(ctx, storage.WatchOptions{})),
			"write":            second(pods.Update(ctx, k("a"), obj("x"), e.Revision, 0)),
		} {
			if err == nil || ctx.Err() != nil || errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrConflict) {
				t.Fatalf("%s without etcd: %v", what, err)
			}
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		data := string(read(t, e)) + "+"
		until(t, "writing again", func() bool {
			got, err := pods.Update(ctx, k("a"), obj(data), e.Revision, 0)
			if err == nil {
				e = got
			} else if errors.Is(err, storage.ErrConflict) {
				t.Fatal(err)
			}
			return err == nil
		})
		next(t, w, storage.Modified, "a", data) // the watch went on, and nothing was told twice
		if got, err := pods.Get(ctx, k("a"), storage.Read{}); err != nil || got.Revision != e.Revision {
			t.Fatalf("consistent read after etcd came back: %v, %v", got, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func read(t *testing.T, e *storage.Entry) []byte {
	t.Helper()
	s := string(e.Value)
	s = strings.TrimSuffix(strings.TrimPrefix(s, `{"data":"`), `"}`)
	return []byte(s)
}

// TestHistoryCompactedMeanwhile cuts the cache off, changes and compacts behind its back, and mends the link.
func TestHistoryCompactedMeanwhile(t *testing.T) {
	ctx := t.Context()
	direct := openDB(t, shared)
	truth := direct.Store(storagetest.Pods())
	l, via := newLink(t, shared)
	c := runCaches(t, openDB(t, via), storagetest.Pods(), storagetest.Nodes())
	pods := c.Store(storagetest.Pods())
	entries := map[string]*storage.Entry{}
	for _, n := range []string{"same", "changed", "deleted"} {
		e, err := truth.Create(ctx, k(n), obj("1"), 0)
		if err != nil {
			t.Fatal(err)
		}
		entries[n] = e
	}
	loaded(t, c)
	w, err := pods.Watch(ctx, storage.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	same, err := pods.Get(ctx, k("same"), storage.Read{})
	if err != nil {
		t.Fatal(err)
	}
	l.set(true)
	if _, err := truth.Update(ctx, k("changed"), obj("2"), entries["changed"].Revision, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := truth.Delete(ctx, k("deleted"), entries["deleted"].Revision); err != nil {
		t.Fatal(err)
	}
	last, err := truth.Create(ctx, k("new"), obj("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := direct.Compact(ctx, last.Revision); err != nil {
		t.Fatal(err)
	}
	l.set(false)
	wctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if evs, err := w.Next(wctx); !errors.Is(err, storage.ErrCompacted) {
		t.Fatalf("watch over lost history: %v, %v", evs, err)
	}
	p, err := pods.List(ctx, storage.ListOptions{Read: storage.Read{Match: storage.NotOlderThan, Revision: last.Revision}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range p.Entries {
		got = append(got, fmt.Sprintf("%s %s", e.Key.Name, e.Value))
	}
	if want := `[changed {"data":"2"} new {"data":"1"} same {"data":"1"}]`; fmt.Sprint(got) != want {
		t.Fatalf("after loading anew: %v, want %s", got, want)
	}
	if again, err := pods.Get(ctx, k("same"), storage.Cached); err != nil || again != same {
		t.Errorf("an object that did not change was read again: %p, %p, %v", again, same, err)
	}
	if _, err := pods.Watch(ctx, storage.WatchOptions{Read: storage.Read{Match: storage.NotOlderThan, Revision: same.Revision}}); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("watch from before: %v", err)
	}
}

// TestCutOff has a link fail and mend many times under writes: one watch tells everything once.
func TestCutOff(t *testing.T) {
	ctx := t.Context()
	truth := openDB(t, shared).Store(storagetest.Pods())
	l, via := newLink(t, shared)
	c := runCaches(t, openDB(t, via), storagetest.Pods())
	loaded(t, c)
	w, err := c.Store(storagetest.Pods()).Watch(ctx, storage.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	const changes = 200
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range changes {
			if i%20 == 10 {
				l.set(i%40 == 10)
			}
			if _, err := truth.Create(ctx, k(fmt.Sprintf("%03d", i)), obj(""), 0); err != nil {
				t.Error(err)
			}
		}
		l.set(false)
	})
	defer wg.Wait()
	for i := 0; i < changes; {
		wctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		evs, err := w.Next(wctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range evs {
			if want := fmt.Sprintf("%03d", i); e.Entry.Key.Name != want {
				t.Fatalf("told %s, want %s", e.Entry.Key, want)
			}
			i++
		}
	}
}

// TestHistoryOverABadLink compares watches of many selectors and starts with the whole history, while the link fails every now
// and then.
func TestHistoryOverABadLink(t *testing.T) {
	truth := openDB(t, shared)
	l, via := newLink(t, shared)
	c := runCaches(t, openDB(t, via), storagetest.Pods(), storagetest.Nodes())
	loaded(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var flap sync.WaitGroup
	flap.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(60 * time.Millisecond) // how often does not matter
			l.set(true)
			time.Sleep(10 * time.Millisecond)
			l.set(false)
		}
	})
	defer flap.Wait()
	defer cancel()
	storagetest.History(t, storagetest.Subject{Backend: c, Writes: truth})
}

func TestDataReplaced(t *testing.T) {
	ctx, server := t.Context(), testcluster.StartEtcd(t)
	c := runCaches(t, openDB(t, server), storagetest.Pods(), storagetest.Nodes())
	pods := c.Store(storagetest.Pods())
	loaded(t, c)
	for i := range 20 {
		if _, err := pods.Create(ctx, k(fmt.Sprint(i)), obj("old"), 0); err != nil {
			t.Fatal(err)
		}
	}
	w, err := pods.Watch(ctx, storage.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := server.Wipe(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "an empty list", func() bool {
		p, err := pods.List(ctx, storage.ListOptions{})
		return err == nil && len(p.Entries) == 0
	})
	wctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if evs, err := w.Next(wctx); !errors.Is(err, storage.ErrCompacted) {
		t.Fatalf("watch over replaced data: %v, %v", evs, err)
	}
	e, err := pods.Create(ctx, k("new"), obj("new"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pods.Get(ctx, k("new"), storage.Read{}); err != nil || got.Revision != e.Revision {
		t.Fatalf("read of the new data: %v, %v", got, err)
	}
	until(t, "the cache in step with the new data", func() bool {
		got, err := pods.Get(ctx, k("new"), storage.Cached)
		return err == nil && got.Revision == e.Revision
	})
}

func TestStartsWithoutEtcd(t *testing.T) {
	server := testcluster.StartEtcd(t)
	server.Kill()
	c := runCaches(t, openDB(t, server), storagetest.Pods(), storagetest.Nodes())
	pods := c.Store(storagetest.Pods())
	if err := c.Ready(); err == nil || !strings.HasSuffix(err.Error(), "nodes.example.com, pods") {
		t.Fatalf("ready without etcd: %v", err)
	}
	if _, err := pods.Watch(t.Context(), storage.WatchOptions{}); !errors.Is(err, errNotLoaded) {
		t.Fatalf("watch without etcd: %v", err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "ready", func() bool { return c.Ready() == nil })
	if _, err := pods.Create(t.Context(), k("a"), obj(""), 0); err != nil {
		t.Fatal(err)
	}
}

// TestTwoProcesses writes through one and reads consistently through the other, with writers of other kinds all the while.
func TestTwoProcesses(t *testing.T) {
	ctx := t.Context()
	a := runCaches(t, openDB(t, shared), storagetest.Pods(), storagetest.Nodes())
	b := runCaches(t, openDB(t, shared), storagetest.Pods(), storagetest.Nodes())
	loaded(t, a)
	loaded(t, b)
	stop, cancel := context.WithCancel(ctx)
	var noise, wg sync.WaitGroup
	defer noise.Wait()
	defer cancel()
	noise.Go(func() {
		nodes := a.Store(storagetest.Nodes())
		e, err := nodes.Create(stop, storage.Key{Name: "n"}, obj(""), 0)
		for err == nil {
			e, err = nodes.Update(stop, storage.Key{Name: "n"}, obj(""), e.Revision, 0)
		}
		if stop.Err() == nil {
			t.Error(err)
		}
	})
	for g := range 4 {
		wg.Go(func() {
			from, to := a.Store(storagetest.Pods()), b.Store(storagetest.Pods())
			key := k(fmt.Sprint(g))
			e, err := from.Create(ctx, key, obj(""), 0)
			for range 50 {
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := to.Get(ctx, key, storage.Read{}); err != nil || got.Revision < e.Revision {
					t.Errorf("%d was acknowledged, but read %v, %v", e.Revision, got, err)
				}
				if p, err := to.List(ctx, storage.ListOptions{Selector: storage.Selector{Namespace: "ns", Name: key.Name}}); err != nil ||
					p.Revision < e.Revision || len(p.Entries) != 1 || p.Entries[0].Revision < e.Revision {
					t.Errorf("%d was acknowledged, but listed %+v, %v", e.Revision, p, err)
				}
				e, err = from.Update(ctx, key, obj(""), e.Revision, 0)
			}
		})
	}
	wg.Wait()
}

func TestKindsComeAndGo(t *testing.T) {
	ctx := t.Context()
	c := runCaches(t, openDB(t, shared), storagetest.Nodes())
	loaded(t, c)
	c.Add(storagetest.Pods())
	pods := c.Store(storagetest.Pods())
	w, err := pods.Watch(ctx, storage.WatchOptions{}) // waits for the kind to be loaded
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Create(ctx, k("a"), obj("1"), 0); err != nil {
		t.Fatal(err)
	}
	next(t, w, storage.Added, "a", "1")
	c.Remove(storagetest.Pods())
	c.Remove(storagetest.Pods())
	if evs, err := w.Next(ctx); !errors.Is(err, storage.ErrCompacted) {
		t.Fatalf("watch of a removed kind: %v, %v", evs, err)
	}
	if _, err := pods.Watch(ctx, storage.WatchOptions{}); err == nil {
		t.Fatal("a removed kind is watched")
	}
	if _, err := pods.Create(ctx, k("b"), obj("2"), 0); err != nil { // its store still is the way to the truth
		t.Fatal(err)
	}
	if p, err := pods.List(ctx, storage.ListOptions{}); err != nil || len(p.Entries) != 2 {
		t.Fatalf("list of a removed kind: %v, %v", p, err)
	}
	again := c.Store(storagetest.Pods())
	if _, err := again.Watch(ctx, storage.WatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if p, err := again.List(ctx, storage.ListOptions{}); err != nil || len(p.Entries) != 2 {
		t.Fatalf("list of the kind added again: %v, %v", p, err)
	}
}
