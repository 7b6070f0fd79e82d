package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/storagetest"
)

func TestKeys(t *testing.T) {
	db := &DB{cfg: Config{Prefix: "/registry"}}
	for _, c := range []struct {
		kind storage.Kind
		key  storage.Key
		path string // empty: cannot be
	}{
		{storage.Kind{Plural: "pods", Namespaced: true}, storage.Key{Namespace: "ns", Name: "a"}, "/registry/core/pods/ns/a"},
		{storage.Kind{Plural: "nodes"}, storage.Key{Name: "n1"}, "/registry/core/nodes/n1"},
		{storage.Kind{Group: "apps", Plural: "deployments", Namespaced: true}, storage.Key{Namespace: "ns", Name: "a"}, "/registry/apps/deployments/ns/a"},
		{storage.Kind{Group: "rbac.authorization.k8s.io", Plural: "clusterroles"}, storage.Key{Name: "system:node"}, "/registry/rbac.authorization.k8s.io/clusterroles/system:node"},
		{storage.Kind{Plural: "pods", Namespaced: true}, storage.Key{Name: "a"}, ""},
		{storage.Kind{Plural: "nodes"}, storage.Key{Namespace: "ns", Name: "n1"}, ""},
		{storage.Kind{Plural: "nodes"}, storage.Key{Name: "a/b"}, ""},
	} {
		s := db.of(c.kind)
		path, err := s.path(c.key)
		if string(path) != c.path || (err != nil) != (c.path == "") {
			t.Errorf("%s %q is %q, %v", c.kind.Plural, c.key, path, err)
		}
		if back, ok := s.key(path); c.path != "" && (!ok || back != c.key) {
			t.Errorf("%s is read as %q, %v", path, back, ok)
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add([]byte("/registry/core/pods/ns/a"), true)
	f.Add([]byte("/registry/core/pods/a"), false)
	f.Add([]byte("/registry/core/pods//a/b"), true)
	f.Fuzz(func(t *testing.T, path []byte, namespaced bool) {
		s := (&DB{cfg: Config{Prefix: "/registry"}}).of(storage.Kind{Plural: "pods", Namespaced: namespaced})
		k, ok := s.key(path)
		if !ok {
			return
		}
		if back, err := s.path(k); err != nil || string(back) != string(path) {
			t.Fatalf("%q is %q, which is %q, %v", path, k, back, err)
		}
	})
}

// leaseClient grants leases by counting.
type leaseClient struct {
	clientv3.Lease
	granted []int64
	err     error
}

func (l *leaseClient) Grant(_ context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	if l.err != nil {
		return nil, l.err
	}
	l.granted = append(l.granted, ttl)
	return &clientv3.LeaseGrantResponse{ID: clientv3.LeaseID(len(l.granted)), TTL: ttl}, nil
}

func TestLeasesAreShared(t *testing.T) {
	c := &leaseClient{}
	l := newLeases(c)
	now := time.Now()
	l.now = func() time.Time { return now }
	take := func(ttl time.Duration, want int64) {
		t.Helper()
		if id, err := l.take(t.Context(), ttl); err != nil || id != want {
			t.Errorf("lease %d, %v; want %d", id, err, want)
		}
	}
	take(0, 0)
	take(time.Hour, 1)
	_, span := slackOf(time.Hour)
	now = now.Add(span)
	take(time.Hour, 1)
	take(time.Minute, 2) // another time to live
	take(time.Hour, 1)
	now = now.Add(time.Second)
	take(time.Hour, 3) // who joined the first now would live longer than promised to the others
	take(1500*time.Millisecond, 4)
	if fmt.Sprint(c.granted) != "[3660 62 3660 4]" {
		t.Errorf("granted %v", c.granted)
	}
	l.drop(t.Context(), 3)
	take(time.Hour, 5)
	for range leaseObjects - 1 {
		take(time.Hour, 5)
	}
	take(time.Hour, 6) // the other is full
	c.err = errors.New("no quorum")
	if _, err := l.take(t.Context(), 2*time.Hour); !errors.Is(err, c.err) {
		t.Error(err)
	}
}

// TestTimeToLive looks at what etcd holds; that events end is seen in the tests of the server.
func TestTimeToLive(t *testing.T) {
	ctx, db := t.Context(), open(t, shared)
	s := db.Store(storagetest.Pods())
	leaseOf := func(name string) int64 {
		t.Helper()
		resp, err := db.conns[0].Get(ctx, db.prefixOf(storagetest.Pods())+"ns/"+name)
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatalf("%v, %v", resp, err)
		}
		return resp.Kvs[0].Lease
	}
	create := func(name string, ttl time.Duration) *storage.Entry {
		t.Helper()
		e, err := s.Create(ctx, storage.Key{Namespace: "ns", Name: name}, storagetest.Object{}.Bytes(), ttl)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a := create("a", time.Hour)
	create("b", time.Hour)
	create("c", 0)
	if leaseOf("a") == 0 || leaseOf("a") != leaseOf("b") || leaseOf("c") != 0 {
		t.Fatalf("leases %d, %d, %d", leaseOf("a"), leaseOf("b"), leaseOf("c"))
	}
	if resp, err := db.conns[0].TimeToLive(ctx, clientv3.LeaseID(leaseOf("a"))); err != nil || resp.GrantedTTL != 3660 {
		t.Fatalf("%+v, %v", resp, err)
	}
	w, err := s.Watch(ctx, storage.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := db.conns[0].Revoke(ctx, clientv3.LeaseID(leaseOf("a"))); err != nil { // what its end does
		t.Fatal(err)
	}
	for n := 0; n < 2; {
		evs, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range evs {
			if e.Type != storage.Deleted || e.Entry.Revision <= a.Revision {
				t.Fatalf("told %+v", e)
			}
			n++
		}
	}
	create("a", time.Hour) // the lease that we remember is gone: another is made
	if leaseOf("a") == 0 {
		t.Fatal("no lease")
	}
	e, err := s.Get(ctx, storage.Key{Namespace: "ns", Name: "a"}, storage.Read{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(ctx, e.Key, e.Value, e.Revision, 0); err != nil || leaseOf("a") != 0 {
		t.Fatalf("updated without a time to live: lease %d, %v", leaseOf("a"), err)
	}
}

// TestCompactionByOne has several processes compact by turns of their clocks: each time one does, up to where the last was.
func TestCompactionByOne(t *testing.T) {
	ctx, db := t.Context(), open(t, shared)
	s := db.Store(storagetest.Pods())
	write := func(name string) int64 {
		t.Helper()
		e, err := s.Create(ctx, storage.Key{Namespace: "ns", Name: name}, storagetest.Object{}.Bytes(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return e.Revision
	}
	compacted := func(rev int64) bool {
		t.Helper()
		_, err := s.List(ctx, storage.ListOptions{Read: storage.Read{Match: storage.Exact, Revision: rev}})
		if err != nil && !errors.Is(err, storage.ErrCompacted) {
			t.Fatal(err)
		}
		return err != nil
	}
	all := []*compactor{{}, {}, {}}
	round := func() {
		t.Helper()
		var wg sync.WaitGroup
		for _, c := range all {
			wg.Go(func() {
				if err := c.round(ctx, db); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	version := func() int64 {
		t.Helper()
		resp, err := db.conns[0].Get(ctx, db.compactionKey())
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatalf("%v, %v", resp, err)
		}
		return resp.Kvs[0].Version
	}
	first := write("a")
	round()
	second := write("b")
	if compacted(first) {
		t.Fatal("the first round compacted what nobody knew the age of")
	}
	round()
	if !compacted(first) || compacted(second) {
		t.Fatalf("after the second round: first gone %v, second gone %v", compacted(first), compacted(second))
	}
	if v := version(); v != 2 {
		t.Fatalf("%d compactions in two rounds", v)
	}
	round()
	if !compacted(second) {
		t.Fatal("the third round did not compact")
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no endpoints":        {},
		"no authority":        {Endpoints: []string{"https://127.0.0.1:1"}, CAFile: "/does/not/exist"},
		"no certificate":      {Endpoints: []string{"https://127.0.0.1:1"}, CertFile: "/does/not/exist", KeyFile: "/does/not/exist"},
		"an authority of air": {Endpoints: []string{"https://127.0.0.1:1"}, CAFile: "/dev/null"},
	} {
		if db, err := Open(cfg, nil); err == nil {
			t.Errorf("%s: opened", name)
			_ = db.Close()
		}
	}
}
