package watchcache

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/etcd"
	"pilothouse.dev/apiserver/storage/storagetest"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

var (
	shared *testcluster.Etcd // set once by TestMain

	mu       sync.Mutex
	prefixes = map[testing.TB]string{} // guarded by mu
)

func TestMain(m *testing.M) {
	os.Exit(testcluster.MainEtcd(m, func(e *testcluster.Etcd) { shared = e }))
}

// openDB is a database of its own for t, under a prefix of a server.
func openDB(t testing.TB, e *testcluster.Etcd) *etcd.DB {
	db, err := etcd.Open(etcd.Config{
		Endpoints: []string{e.Endpoint},
		Prefix:    prefixOf(t),
	}, logging.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// prefixOf is the same for all databases that one test opens, and another with each -count.
func prefixOf(t testing.TB) string {
	mu.Lock()
	defer mu.Unlock()
	if _, ok := prefixes[t]; !ok {
		prefixes[t] = fmt.Sprintf("/%s-%d", strings.NewReplacer("/", "-", " ", "_").Replace(t.Name()), time.Now().UnixNano())
		t.Cleanup(func() {
			mu.Lock()
			defer mu.Unlock()
			delete(prefixes, t)
		})
	}
	return prefixes[t]
}

// runCaches runs caches of the given kinds until the end of t, with bookmarks every 100 ms and little patience.
func runCaches(t testing.TB, db *etcd.DB, kinds ...storage.Kind) *Caches {
	c := New(db, logging.ForTest(t))
	for _, k := range kinds {
		k := c.Store(k).(*cache)
		k.bookmarks, k.patience = 100*time.Millisecond, 500*time.Millisecond
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// loaded waits until all kinds are.
func loaded(t testing.TB, c *Caches) {
	t.Helper()
	for _, k := range c.all() {
		if err := k.awaitLoaded(t.Context()); err != nil {
			t.Fatalf("%s: %v", k.kind.Plural, err)
		}
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	storagetest.Test(t, func(t *testing.T) storagetest.Subject {
		db := openDB(t, shared)
		c := runCaches(t, db, storagetest.Pods(), storagetest.Nodes())
		loaded(t, c)
		return storagetest.Subject{Backend: c, Compact: db.Compact}
	})
}
