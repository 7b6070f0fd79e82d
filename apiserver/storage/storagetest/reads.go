package storagetest

import (
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/apiserver/storage"
)

func notOlder(rev int64) storage.Read {
	return storage.Read{Match: storage.NotOlderThan, Revision: rev}
}
func exact(rev int64) storage.Read { return storage.Read{Match: storage.Exact, Revision: rev} }

func testGetFreshness(t *T) {
	k := key("ns", "a")
	one := t.create(t.pods, k, Object{Data: "1"})
	two := t.update(t.pods, k, Object{Data: "2"}, one.Revision)
	other := t.create(t.nodes, key("", "n"), Object{})
	for _, r := range []storage.Read{{}, notOlder(two.Revision), notOlder(other.Revision), exact(two.Revision), exact(other.Revision)} {
		e, err := t.pods.Get(t.ctx, k, r)
		t.must(err)
		t.same(fmt.Sprintf("read %+v", r), e.Revision, two.Revision)
	}
	e, err := t.pods.Get(t.ctx, k, exact(one.Revision))
	t.must(err)
	t.same("old state", e.Revision, one.Revision)
	_, err = t.pods.Get(t.ctx, k, exact(one.Revision-1))
	t.want(err, storage.ErrNotFound)
	for _, r := range []storage.Read{notOlder(other.Revision + 1000), exact(other.Revision + 1000)} {
		_, err = t.pods.Get(t.ctx, k, r)
		t.want(err, storage.ErrTooNew)
		var n *storage.TooNew
		if !errors.As(err, &n) || n.Asked != r.Revision || n.Current < other.Revision || n.Current >= r.Revision {
			t.Fatalf("error does not say what was asked and what is: %v", err)
		}
	}
	if _, err := t.pods.Get(t.ctx, k, storage.Cached); err != nil { // the read above waited for it
		t.Fatal(err)
	}
}

func testList(t *T) {
	node := func(n string) Object {
		return Object{Labels: labels.Set{"on": n}, Fields: fields.Set{"spec.nodeName": n}}
	}
	for _, k := range []storage.Key{key("b", "x"), key("a", "y"), key("a", "x"), key("a-b", "x"), key("a.b", "x"), key("ab", "z")} {
		t.create(t.pods, k, node(k.Namespace))
	}
	t.create(t.nodes, key("", "n2"), Object{})
	t.create(t.nodes, key("", "n1"), Object{})
	sel := func(s string) labels.Selector {
		l, err := labels.Parse(s)
		t.must(err)
		return l
	}
	for _, c := range []struct {
		name  string
		store storage.Store
		sel   storage.Selector
		want  string
	}{
		{"all, in the order of the keys' bytes", t.pods, storage.Selector{}, "[a-b/x a.b/x a/x a/y ab/z b/x]"},
		{"without namespaces", t.nodes, storage.Selector{}, "[n1 n2]"},
		{"one without namespace", t.nodes, storage.Selector{Name: "n2"}, "[n2]"},
		{"namespace", t.pods, storage.Selector{Namespace: "a"}, "[a/x a/y]"},
		{"no such namespace", t.pods, storage.Selector{Namespace: "aa"}, "[]"},
		{"name", t.pods, storage.Selector{Name: "y"}, "[a/y]"},
		{"namespace and name", t.pods, storage.Selector{Namespace: "a", Name: "x"}, "[a/x]"},
		{"name that cannot be", t.pods, storage.Selector{Namespace: "a", Name: "x/y"}, "[]"},
		{"labels", t.pods, storage.Selector{Labels: sel("on in (a,b)")}, "[a/x a/y b/x]"},
		{"labels and namespace", t.pods, storage.Selector{Namespace: "b", Labels: sel("on in (a,b)")}, "[b/x]"},
		{"field", t.pods, storage.Selector{Fields: fields.OneTermEqualSelector("spec.nodeName", "ab")}, "[ab/z]"},
		{"field unequal", t.pods, storage.Selector{Fields: fields.OneTermNotEqualSelector("spec.nodeName", "a")}, "[a-b/x a.b/x ab/z b/x]"},
		{"field name", t.pods, storage.Selector{Fields: fields.OneTermEqualSelector("metadata.name", "y")}, "[a/y]"},
		{"field namespace", t.pods, storage.Selector{Fields: fields.OneTermEqualSelector("metadata.namespace", "b")}, "[b/x]"},
	} {
		t.same(c.name, names(t.list(c.store, storage.ListOptions{Selector: c.sel})), c.want)
		for _, limit := range []int64{1, 2, 100} {
			t.same(fmt.Sprintf("%s, %d at a time", c.name, limit), t.pages(c.store, storage.ListOptions{Selector: c.sel, Limit: limit}), c.want)
		}
	}
}

// pages walks through a list and returns all names.
func (t *T) pages(s storage.Store, o storage.ListOptions) []string {
	t.Helper()
	all := []string{}
	for {
		p := t.list(s, o)
		if int64(len(p.Entries)) > o.Limit {
			t.Fatalf("page of %d, limit is %d", len(p.Entries), o.Limit)
		}
		all = append(all, names(p)...)
		if p.Continue == "" {
			return all
		}
		o.Continue = p.Continue
	}
}

func testListFreshness(t *T) {
	one := t.create(t.pods, key("ns", "a"), Object{})
	two := t.create(t.pods, key("ns", "b"), Object{})
	t.delete(t.pods, key("ns", "a"), one.Revision)
	last := t.create(t.nodes, key("", "n"), Object{})
	for _, c := range []struct {
		name string
		read storage.Read
		want string
	}{
		{"consistent", storage.Read{}, "[ns/b]"},
		{"not older than now", notOlder(last.Revision), "[ns/b]"},
		{"exactly before both", exact(one.Revision - 1), "[]"},
		{"exactly after one", exact(one.Revision), "[ns/a]"},
		{"exactly after two", exact(two.Revision), "[ns/a ns/b]"},
		{"exactly now", exact(last.Revision), "[ns/b]"},
	} {
		p := t.list(t.pods, storage.ListOptions{Read: c.read})
		t.same(c.name, names(p), c.want)
		switch c.read.Match {
		case storage.Exact:
			t.same(c.name+": revision", p.Revision, c.read.Revision)
		default:
			if p.Revision < last.Revision {
				t.Fatalf("%s: revision %d is before %d", c.name, p.Revision, last.Revision)
			}
		}
	}
	for _, r := range []storage.Read{notOlder(last.Revision + 1000), exact(last.Revision + 1000)} {
		_, err := t.pods.List(t.ctx, storage.ListOptions{Read: r})
		t.want(err, storage.ErrTooNew)
	}
}

func testPages(t *T) {
	var want []string
	for i := range 25 {
		k := key(fmt.Sprintf("ns%d", i%2), fmt.Sprintf("p%02d", i))
		t.create(t.pods, k, Object{Labels: labels.Set{"odd": fmt.Sprint(i % 2)}})
	}
	want = names(t.list(t.pods, storage.ListOptions{}))
	for _, ns := range []string{"", "ns0"} {
		all := 25
		if ns != "" {
			all = 13
		}
		o := storage.ListOptions{Selector: storage.Selector{Namespace: ns}, Limit: 10}
		for seen := 0; ; {
			p := t.list(t.pods, o)
			t.same("page", names(p), want[seen:min(seen+10, all)])
			if seen += len(p.Entries); seen == all {
				if p.Continue != "" || p.Remaining != nil {
					t.Fatalf("last page goes on: %q, %v", p.Continue, p.Remaining)
				}
				break
			}
			if p.Remaining == nil || *p.Remaining != int64(all-seen) {
				t.Fatalf("after %d of %d remaining is %v", seen, all, p.Remaining)
			}
			o.Continue = p.Continue
		}
	}
	odd, err := labels.Parse("odd=1")
	t.must(err)
	p := t.list(t.pods, storage.ListOptions{Selector: storage.Selector{Labels: odd}, Limit: 5})
	if len(p.Entries) != 5 || p.Remaining != nil {
		t.Fatalf("selected page of %d says remaining %v", len(p.Entries), p.Remaining)
	}
	if p = t.list(t.pods, storage.ListOptions{Limit: 25}); p.Continue != "" {
		t.Fatal("a page that holds all goes on")
	}
}

func testPagesAreOneState(t *T) {
	for i := range 10 {
		t.create(t.pods, key("ns", fmt.Sprint(i)), Object{})
	}
	p := t.list(t.pods, storage.ListOptions{Limit: 4})
	rev := p.Revision
	for _, e := range p.Entries {
		t.delete(t.pods, e.Key, e.Revision)
	}
	e, err := t.pods.Get(t.ctx, key("ns", "7"), storage.Read{})
	t.must(err)
	t.delete(t.pods, e.Key, e.Revision)
	t.create(t.pods, key("ns", "99"), Object{})
	t.same("present", names(t.list(t.pods, storage.ListOptions{})), "[ns/4 ns/5 ns/6 ns/8 ns/9 ns/99]")
	got := names(p)
	for p.Continue != "" {
		p = t.list(t.pods, storage.ListOptions{Limit: 4, Continue: p.Continue})
		t.same("revision", p.Revision, rev)
		got = append(got, names(p)...)
	}
	t.same("all", got, "[ns/0 ns/1 ns/2 ns/3 ns/4 ns/5 ns/6 ns/7 ns/8 ns/9]")
}

// testPagesExpire allows an implementation to remember longer than etcd.
func testPagesExpire(t *T) {
	var last *storage.Entry
	for i := range 6 {
		last = t.create(t.pods, key("ns", fmt.Sprint(i)), Object{})
	}
	p := t.list(t.pods, storage.ListOptions{Limit: 2})
	t.delete(t.pods, last.Key, last.Revision)
	now := t.create(t.pods, key("ns", "9"), Object{})
	t.must(t.s.Compact(t.ctx, now.Revision))
	next, err := t.pods.List(t.ctx, storage.ListOptions{Limit: 10, Continue: p.Continue})
	if err == nil {
		t.same("rest of the old state", names(next), "[ns/2 ns/3 ns/4 ns/5]")
		t.same("its revision", next.Revision, p.Revision)
		return
	}
	t.want(err, storage.ErrCompacted)
	var x *storage.Expired
	if !errors.As(err, &x) || x.Continue == "" {
		t.Fatalf("%v gives no token to go on with", err)
	}
	next = t.list(t.pods, storage.ListOptions{Limit: 10, Continue: x.Continue})
	t.same("rest of the new state", names(next), "[ns/2 ns/3 ns/4 ns/9]")
	if next.Revision < now.Revision {
		t.Fatalf("the new state is of %d", next.Revision)
	}
	_, err = t.pods.List(t.ctx, storage.ListOptions{Read: exact(p.Revision - 1)})
	t.want(err, storage.ErrCompacted)
	if errors.As(err, &x) {
		t.Fatalf("a list that is not paged is told to go on: %v", err)
	}
}

func testBadTokens(t *T) {
	for i := range 3 {
		t.create(t.pods, key("ns", fmt.Sprint(i)), Object{})
		t.create(t.nodes, key("", fmt.Sprint(i)), Object{})
	}
	good := t.list(t.pods, storage.ListOptions{Limit: 1}).Continue
	node := t.list(t.nodes, storage.ListOptions{Limit: 1}).Continue
	for name, c := range map[string]storage.ListOptions{
		"garbage":                   {Continue: "garbage"},
		"not base64":                {Continue: "%%%"},
		"cut":                       {Continue: good[:len(good)/2]},
		"of another kind":           {Continue: node},
		"of another namespace":      {Continue: good, Selector: storage.Selector{Namespace: "other"}},
		"climbing out of the kind":  {Continue: storage.Token{Revision: 1, After: key("..", "../x")}.String()},
		"of a kind with namespaces": {Continue: storage.Token{Revision: 1, After: key("", "x")}.String()},
	} {
		if _, err := t.pods.List(t.ctx, c); !errors.Is(err, storage.ErrBadContinue) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// testReadYourWrites has several goroutines write one kind and at once read it and another, each consistently.
func testReadYourWrites(t *T) {
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for g := range 4 {
		wg.Go(func() {
			for i := range 15 {
				k := key("ns", fmt.Sprintf("%d-%d", g, i))
				e, err := t.pods.Create(t.ctx, k, Object{}.Bytes(), 0)
				if err != nil {
					errs <- err
					return
				}
				if got, err := t.pods.Get(t.ctx, k, storage.Read{}); err != nil || got.Revision != e.Revision {
					errs <- fmt.Errorf("%s was acknowledged but read as %v, %w", k, got, err)
				}
				p, err := t.nodes.List(t.ctx, storage.ListOptions{})
				if err != nil || p.Revision < e.Revision {
					errs <- fmt.Errorf("nodes listed at %v, but %d was acknowledged: %w", p, e.Revision, err)
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}
