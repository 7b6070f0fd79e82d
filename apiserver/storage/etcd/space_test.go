package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/pkg/testcluster"
)

// An etcd that is full of history says so readably, goes on to be read and deleted from, and takes writes again by itself.
func TestFullEtcdIsFreed(t *testing.T) {
	e := testcluster.StartEtcd(t, "--quota-backend-bytes=8388608")
	db := open(t, e)
	s := db.Store(storage.Kind{Plural: "configmaps", Namespaced: true, Attrs: func(storage.Key, []byte) (storage.Attrs, error) {
		return storage.Attrs{}, nil
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	key, other := storage.Key{Namespace: "ns", Name: "a"}, storage.Key{Namespace: "ns", Name: "b"}
	if _, err := s.Create(ctx, other, []byte("small"), 0); err != nil {
		t.Fatal(err)
	}
	last, err := s.Create(ctx, key, value(512<<10), 0)
	for err == nil {
		var next *storage.Entry
		if next, err = s.Update(ctx, key, value(512<<10), last.Revision, 0); err == nil {
			last = next
		}
	}
	if !errors.Is(err, storage.ErrFull) {
		t.Fatalf("a write to a full etcd is refused with: %v", err)
	}
	got, err := s.Get(ctx, key, storage.Read{})
	// The write that finds the quota reached may be done and refused all the same: etcd looks at its room beside the write.
	if err != nil || got.Revision < last.Revision || got.Revision > last.Revision+1 || len(got.Value) != 512<<10 {
		t.Fatalf("reading from a full etcd: %v", err)
	}
	last = got
	if _, err := s.Delete(ctx, other, mustGet(ctx, t, s, other).Revision); err != nil {
		t.Fatalf("deleting from a full etcd: %v", err)
	}

	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ended <- db.Run(running) }()
	for {
		if _, err = s.Update(ctx, key, value(512<<10), last.Revision, 0); err == nil {
			break
		}
		if !errors.Is(err, storage.ErrFull) {
			t.Fatalf("while etcd is freed: %v", err)
		}
		select {
		case <-ctx.Done():
			t.Fatal("writes did not come back")
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A member gives back what compaction freed when that is much of its file, and is left alone otherwise.
func TestDefragmentsWhenItPays(t *testing.T) {
	e := testcluster.StartEtcd(t)
	db := open(t, e)
	db.cfg.Defragment = 4 << 20
	s := db.Store(storage.Kind{Plural: "configmaps", Namespaced: true, Attrs: func(storage.Key, []byte) (storage.Attrs, error) {
		return storage.Attrs{}, nil
	}})
	ctx := t.Context()
	key := storage.Key{Namespace: "ns", Name: "a"}
	last, err := s.Create(ctx, key, value(1<<20), 0)
	for range 12 {
		if err != nil {
			t.Fatal(err)
		}
		last, err = s.Update(ctx, key, value(1<<20), last.Revision, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	size := func() member {
		t.Helper()
		m, err := db.members(ctx)
		if err != nil || len(m) != 1 {
			t.Fatal(m, err)
		}
		return m[0]
	}
	before := size()
	if err := db.defragmentWasteful(ctx); err != nil || size().size < before.size {
		t.Fatalf("a file without waste was touched: %+v, %v", size(), err)
	}
	if err := db.compact(ctx, last.Revision, physically); err != nil {
		t.Fatal(err)
	}
	// etcd tells of the freed pages only with its next commit, which a busy machine delays: ask again, as Run does.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := db.defragmentWasteful(ctx); err != nil {
			t.Fatal(err)
		}
		after := size()
		if after.size <= before.size/2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v before, %+v after", before, after)
		}
	}
	if mustGet(ctx, t, s, key).Revision != last.Revision {
		t.Fatal("the object is another one")
	}
}

func mustGet(ctx context.Context, t *testing.T, s storage.Store, key storage.Key) *storage.Entry {
	t.Helper()
	e, err := s.Get(ctx, key, storage.Read{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// value is n bytes that no two calls have alike.
func value(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
