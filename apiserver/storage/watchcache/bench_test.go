package watchcache

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/fields"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/storagetest"
)

var kib = storagetest.Object{Data: strings.Repeat("x", 1000)}.Bytes()

func benched(b *testing.B, objects int) (*Caches, storage.Store) {
	db := openDB(b, shared)
	s := db.Store(storagetest.Pods())
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := g; i < objects; i += 16 {
				if _, err := s.Create(context.Background(), storage.Key{Namespace: "ns", Name: fmt.Sprintf("p%05d", i)}, kib, 0); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c := runCaches(b, db, storagetest.Pods(), storagetest.Nodes())
	loaded(b, c)
	return c, c.Store(storagetest.Pods())
}

// BenchmarkCreate is to be held against storage/etcd's benchmark of the same name.
func BenchmarkCreate(b *testing.B) {
	_, s := benched(b, 0)
	n := atomic.Int64{}
	b.SetParallelism(16)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := s.Create(b.Context(), storage.Key{Namespace: "ns", Name: fmt.Sprintf("%d-%d", b.N, n.Add(1))}, kib, 0); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	c, s := benched(b, 1000)
	k := storage.Key{Namespace: "ns", Name: "p00500"}
	for _, bm := range []struct {
		name string
		read storage.Read
		par  int
		busy bool // another kind is written all the time
	}{
		{"cached", storage.Cached, 16, false},
		{"consistent/1", storage.Read{}, 0, false},
		{"consistent/32", storage.Read{}, 16, false},
		{"consistent/busy/1", storage.Read{}, 0, true},
		{"consistent/busy/32", storage.Read{}, 16, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			get := func() {
				if _, err := s.Get(b.Context(), k, bm.read); err != nil {
					b.Error(err)
				}
			}
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			if bm.busy {
				wg.Go(func() {
					nodes := c.Store(storagetest.Nodes())
					k := storage.Key{Name: fmt.Sprint("n", b.N, bm.par)}
					e, err := nodes.Create(ctx, k, kib, 0)
					for err == nil {
						e, err = nodes.Update(ctx, k, kib, e.Revision, 0)
					}
					if ctx.Err() == nil {
						b.Error(err)
					}
				})
			}
			b.ReportAllocs()
			b.ResetTimer()
			if bm.par == 0 {
				for range b.N {
					get()
				}
				return
			}
			b.SetParallelism(bm.par)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					get()
				}
			})
		})
	}
}

func BenchmarkList10000(b *testing.B) {
	_, s := benched(b, 10000)
	on := fields.OneTermEqualSelector("spec.nodeName", "n1")
	for _, bm := range []struct {
		name string
		o    storage.ListOptions
	}{
		{"cached", storage.ListOptions{Read: storage.Cached}},
		{"consistent", storage.ListOptions{}},
		{"page of 500", storage.ListOptions{Limit: 500}},
		{"none by field", storage.ListOptions{Selector: storage.Selector{Fields: on}, Read: storage.Cached}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.List(b.Context(), bm.o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFanOut counts deliveries: one is an event handed to one watcher, with its one shared encoding.
func BenchmarkFanOut(b *testing.B) {
	for _, bm := range []struct {
		name     string
		watchers int
		narrow   bool
	}{{"100", 100, false}, {"1000", 1000, false}, {"1000 kubelets", 1000, true}} {
		b.Run(bm.name, func(b *testing.B) {
			c := newCache(storagetest.Pods(), openDB(b, shared), newFresh(nil, nil), quiet(b))
			feed := newScript(c)
			c.now = time.Now
			var got atomic.Int64
			var wg sync.WaitGroup
			ctx, cancel := context.WithCancel(b.Context())
			for i := range bm.watchers {
				o := storage.WatchOptions{Read: storage.Cached}
				if bm.narrow {
					o.Fields = fields.OneTermEqualSelector("spec.nodeName", fmt.Sprint("n", i))
				}
				w, err := c.Watch(ctx, o)
				if err != nil {
					b.Fatal(err)
				}
				wg.Go(func() {
					defer w.Close()
					for {
						evs, err := w.Next(ctx)
						if err != nil {
							return
						}
						for _, e := range evs {
							if _, err := e.Entry.Encoded(storage.Form{Media: "x"}, func(e *storage.Entry) ([]byte, error) { return e.Value, nil }); err != nil {
								b.Error(err)
							}
						}
						got.Add(int64(len(evs)))
					}
				})
			}
			want := int64(0)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				node := fmt.Sprint("n", i%bm.watchers)
				feed.put("ns/p"+fmt.Sprint(i%100), storagetest.Object{Fields: fields.Set{"spec.nodeName": node}})
				want += int64(bm.watchers)
				if bm.narrow {
					want = int64(i) + 1
				}
				if i%50 == 49 { // a writer that waits for nobody would only measure dropped readers
					for got.Load() < want-int64(25*bm.watchers) && !bm.narrow {
						yield()
					}
				}
			}
			for got.Load() < want {
				yield()
			}
			b.StopTimer()
			b.ReportMetric(float64(got.Load())/b.Elapsed().Seconds(), "deliveries/s")
			cancel()
			wg.Wait()
		})
	}
}
