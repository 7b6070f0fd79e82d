package etcd

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/storagetest"
)

// The benchmarks stand beside their limit: the same transaction by etcd's own client over the same connections.

func BenchmarkCreate(b *testing.B) {
	kb := storagetest.Object{Data: strings.Repeat("x", 1000)}.Bytes()
	b.Run("raw", func(b *testing.B) {
		db, n := open(b, shared), atomic.Int64{}
		b.SetParallelism(16)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				i := n.Add(1)
				key := fmt.Sprintf("%s/raw/%d-%d", db.cfg.Prefix, b.N, i)
				_, err := db.conns[int(i)%len(db.conns)].Txn(b.Context()).
					If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).Then(clientv3.OpPut(key, string(kb))).Commit()
				if err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("store", func(b *testing.B) {
		s, n := open(b, shared).Store(storagetest.Pods()), atomic.Int64{}
		b.SetParallelism(16)
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				k := storage.Key{Namespace: "ns", Name: fmt.Sprintf("%d-%d", b.N, n.Add(1))}
				if _, err := s.Create(b.Context(), k, kb, 0); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func BenchmarkGet(b *testing.B) {
	kb := storagetest.Object{Data: strings.Repeat("x", 1000)}.Bytes()
	db := open(b, shared)
	s := db.Store(storagetest.Pods())
	k := storage.Key{Namespace: "ns", Name: "a"}
	if _, err := s.Create(b.Context(), k, kb, 0); err != nil {
		b.Fatal(err)
	}
	b.Run("raw", func(b *testing.B) {
		n := atomic.Int64{}
		b.SetParallelism(16)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := db.conns[int(n.Add(1))%len(db.conns)].Get(b.Context(), db.prefixOf(storagetest.Pods())+"ns/a"); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("store", func(b *testing.B) {
		b.SetParallelism(16)
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := s.Get(b.Context(), k, storage.Read{}); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func BenchmarkRevision(b *testing.B) {
	db := open(b, shared)
	for b.Loop() {
		if _, err := db.Revision(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
