package watchcache

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/storagetest"
)

// TestReadersShareQuestions has a hundred readers come while one question is under way: they share the next.
func TestReadersShareQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		answer := make(chan int64)
		f := newFresh(func(context.Context) (int64, error) { asked++; return <-answer, nil }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var run, readers sync.WaitGroup
		run.Go(func() { f.run(ctx) })
		reader := func(want int64) {
			readers.Go(func() {
				if rev, err := f.revision(ctx); err != nil || rev != want {
					t.Errorf("told %d, %v; want %d", rev, err, want)
				}
			})
			synctest.Wait()
		}
		reader(5)
		for range 100 {
			reader(9) // 5 was asked for before they came
		}
		answer <- 5
		answer <- 9
		readers.Wait()
		if asked != 2 {
			t.Errorf("%d questions", asked)
		}
		cancel()
		run.Wait()
	})
}

func TestQuestionsFailInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFresh(func(ctx context.Context) (int64, error) { <-ctx.Done(); return 0, ctx.Err() }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { f.run(ctx) })
		began := time.Now()
		if _, err := f.revision(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != f.timeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		own, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		if _, err := f.revision(own); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != f.timeout+time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		cancel()
		run.Wait()
	})
}

func TestReplacedDataIsNoticed(t *testing.T) {
	rev, noticed := int64(10), 0
	f := newFresh(func(context.Context) (int64, error) { return rev, nil }, func() { noticed++ })
	for _, rev = range []int64{10, 11, 11, 3, 4} {
		f.answer(t.Context(), &question{done: make(chan struct{})})
	}
	if noticed != 1 || f.seen.Load() != 4 {
		t.Errorf("noticed %d times, now at %d", noticed, f.seen.Load())
	}
}

func scripted(t testing.TB) (*cache, *script) {
	c := newCache(storagetest.Pods(), openDB(t, shared), newFresh(nil, nil), quiet(t))
	return c, newScript(c)
}

// TestEncodingsAreKeptWhileRecent counts how often entries are encoded for those who come early and late.
func TestEncodingsAreKeptWhileRecent(t *testing.T) {
	c, s := scripted(t)
	s.put("ns/a", storagetest.Object{Data: "1"})
	s.put("ns/b", storagetest.Object{Data: "1"})
	s.delete("ns/b")
	made := 0
	look := func() int {
		t.Helper()
		made = 0
		w, err := c.Watch(t.Context(), storage.WatchOptions{Read: storage.Read{Match: storage.NotOlderThan, Revision: 1}})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		evs, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range evs {
			if _, err := e.Entry.Encoded(storage.Form{Media: "x", Event: e.Type}, func(*storage.Entry) ([]byte, error) { made++; return nil, nil }); err != nil {
				t.Fatal(err)
			}
		}
		return made
	}
	if n := look(); n != 3 {
		t.Errorf("the first encoded %d of 3", n)
	}
	if n := look(); n != 0 {
		t.Errorf("the second encoded %d again", n)
	}
	s.now = s.now.Add(recentFor + time.Second)
	c.sweep()
	for range 2 {
		if n := look(); n != 3 {
			t.Errorf("late, encoded %d of 3", n)
		}
	}
	s.put("ns/a", storagetest.Object{Data: "2"})
	e, err := c.Get(t.Context(), k("a"), storage.Cached)
	if err != nil {
		t.Fatal(err)
	}
	encode := func() {
		if _, err := e.Encoded(storage.Form{Media: "x"}, func(*storage.Entry) ([]byte, error) { made++; return nil, nil }); err != nil {
			t.Fatal(err)
		}
	}
	made = 0
	encode()
	for range recentChanges + 1 {
		s.put("ns/other", storagetest.Object{})
	}
	encode()
	encode()
	if made != 3 {
		t.Errorf("after %d changes encoded %d times, want 3", recentChanges+1, made)
	}
}

// TestOnlyTheConcernedWake counts wake-ups of watchers with different node names.
func TestOnlyTheConcernedWake(t *testing.T) {
	c, s := scripted(t)
	const nodes = 50
	woken := make(chan int, 10*nodes)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range nodes {
		w, err := c.Watch(ctx, storage.WatchOptions{Read: storage.Cached, Selector: storage.Selector{
			Fields: fields.OneTermEqualSelector("spec.nodeName", fmt.Sprint("n", i))}})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer w.Close()
			for {
				if _, err := w.Next(ctx); err != nil {
					return
				}
				woken <- i
			}
		})
	}
	until(t, "all waiting", func() bool {
		c.mu.RLock()
		defer c.mu.RUnlock()
		n := 0
		for _, t := range c.topics.narrow {
			if t.waiting.Load() {
				n++
			}
		}
		return n == nodes
	})
	s.put("ns/a", storagetest.Object{Fields: fields.Set{"spec.nodeName": "n7"}})
	if got := <-woken; got != 7 {
		t.Errorf("n%d woke for n7", got)
	}
	c.mu.RLock()
	for of, tp := range c.topics.narrow {
		if of.a != "n7" && !tp.waiting.Load() {
			t.Errorf("%s was woken for n7", of.a)
		}
	}
	c.mu.RUnlock()
	s.put("ns/a", storagetest.Object{Fields: fields.Set{"spec.nodeName": "n8"}})
	if a, b := <-woken, <-woken; a+b != 15 {
		t.Errorf("n%d and n%d woke for the move from n7 to n8", a, b)
	}
	cancel()
	wg.Wait()
}

func TestCachedGetDoesNotAllocate(t *testing.T) {
	c, s := scripted(t)
	s.put("ns/a", storagetest.Object{})
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := c.Get(ctx, k("a"), storage.Cached); err != nil {
			t.Fatal(err)
		}
	}); n >= 1 { // the pool of search keys is emptied now and then
		t.Errorf("%v allocations", n)
	}
}

// TestMemory holds the whole of a cache against the bytes it stores: the aim is twice as much.
func TestMemory(t *testing.T) {
	const objects = 10000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	c, s := scripted(t)
	o := storagetest.Object{Data: strings.Repeat("x", 1000)}
	before, stored := heap(), 0
	for i := range objects {
		s.put(fmt.Sprintf("namespace-%d/configmap-%05d", i%10, i), o)
		stored += len(o.Bytes())
	}
	filled := float64(heap()-before) / float64(stored)
	for i := range 3 * objects { // writes that outdate every object three times
		s.put(fmt.Sprintf("namespace-%d/configmap-%05d", i%objects%10, i%objects), o)
	}
	busy := float64(heap()-before) / float64(stored)
	s.now = s.now.Add(2 * keepFor)
	c.sweep()
	calm := float64(heap()-before) / float64(stored)
	t.Logf("of the stored bytes: %.2f filled, %.2f while busy, %.2f calm", filled, busy, calm)
	if filled > 2 || busy > 2 || calm > 2 {
		t.Error("more than twice the stored bytes")
	}
	runtime.KeepAlive(c)
}

func TestEqualSetsAreShared(t *testing.T) {
	c, s := scripted(t)
	for i := range 3 {
		s.put(fmt.Sprint("ns/", i), storagetest.Object{Labels: labels.Set{"app": "x", "tier": "y"}, Fields: fields.Set{"f": "1"}})
	}
	s.put("ns/other", storagetest.Object{Labels: labels.Set{"app": "y", "tier": "x"}})
	get := func(name string) storage.Attrs {
		e, err := c.Get(t.Context(), k(name), storage.Cached)
		if err != nil {
			t.Fatal(err)
		}
		return e.Attrs
	}
	same := func(a, b map[string]string) bool { return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() }
	if !same(get("0").Labels, get("2").Labels) || !same(get("0").Fields, get("1").Fields) {
		t.Error("equal sets are kept twice")
	}
	if o := get("other"); o.Labels["app"] != "y" || o.Fields != nil {
		t.Errorf("another set became %v", o)
	}
}
