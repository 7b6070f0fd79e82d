package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"pilothouse.dev/pkg/testcluster"
)

// What TestHistory does how often. The seed makes the plans; the machine mixes them.
const (
	historySeed     = 7
	historyWriters  = 4
	historyWrites   = 250 // a writer
	historyWatchers = 48
)

// object is what the kinds of TestHistory have in common.
type object interface {
	runtime.Object
	metav1.Object
	Unmarshal([]byte) error
}

// watched is one kind of TestHistory.
type watched struct {
	plural     string
	namespaced bool
	empty      func() object
	body       func(rnd *rand.Rand, name string) string // of a new object
	patch      func(rnd *rand.Rand) string
	fields     func(object) fields.Set
	selectors  []string // field selectors that watchers use
}

func label(rnd *rand.Rand) string { return fmt.Sprintf(`"labels":{"a":"%d"}`, rnd.IntN(3)) }

var historyKinds = []watched{
	{"configmaps", true, func() object { return &corev1.ConfigMap{} },
		func(r *rand.Rand, n string) string {
			return fmt.Sprintf(`{"metadata":{"name":%q,%s},"data":{"k":"%d"}}`, n, label(r), r.IntN(100))
		},
		func(r *rand.Rand) string {
			return fmt.Sprintf(`{"metadata":{%s},"data":{"k":"%d"}}`, label(r), r.IntN(100))
		},
		func(object) fields.Set { return nil }, []string{"", "", "metadata.name=n1"}},
	{"secrets", true, func() object { return &corev1.Secret{} },
		func(r *rand.Rand, n string) string {
			return fmt.Sprintf(`{"metadata":{"name":%q,%s},"type":"example.com/%d"}`, n, label(r), r.IntN(3))
		},
		func(r *rand.Rand) string {
			return fmt.Sprintf(`{"metadata":{%s},"stringData":{"k":"%d"}}`, label(r), r.IntN(3))
		},
		func(o object) fields.Set { return fields.Set{"type": string(o.(*corev1.Secret).Type)} }, []string{"", "type=example.com/1", "type!=example.com/1"}},
	{"nodes", false, func() object { return &corev1.Node{} },
		func(r *rand.Rand, n string) string {
			return fmt.Sprintf(`{"metadata":{"name":%q,%s},"spec":{"unschedulable":%v}}`, n, label(r), r.IntN(2) == 0)
		},
		func(r *rand.Rand) string {
			return fmt.Sprintf(`{"metadata":{%s},"spec":{"unschedulable":%v}}`, label(r), r.IntN(2) == 0)
		},
		func(o object) fields.Set {
			return fields.Set{"spec.unschedulable": strconv.FormatBool(o.(*corev1.Node).Spec.Unschedulable)}
		}, []string{"", "spec.unschedulable=true", "metadata.name=n2"}},
}

func (k *watched) path(ns string) string {
	if !k.namespaced || ns == "" {
		return "/api/v1/" + k.plural
	}
	return "/api/v1/namespaces/" + ns + "/" + k.plural
}

// interest is what one watcher asks for.
type interest struct {
	kind           *watched
	ns             string
	labels, fields string
}

func (i *interest) query() string {
	return "labelSelector=" + url.QueryEscape(i.labels) + "&fieldSelector=" + url.QueryEscape(i.fields)
}

func (i *interest) matches(t testing.TB, o object) bool {
	if o == nil || i.ns != "" && o.GetNamespace() != i.ns {
		return false
	}
	l, err := labels.Parse(i.labels)
	if err != nil {
		t.Fatal(err)
	}
	set := fields.Set{"metadata.name": o.GetName()}
	for k, v := range i.kind.fields(o) {
		set[k] = v
	}
	return l.Matches(labels.Set(o.GetLabels())) && fields.ParseSelectorOrDie(i.fields).Matches(set)
}

// step is an event: of etcd's history, projected on an interest, or as a watcher got it.
type step struct {
	event string
	rev   int64
	obj   object // nil of a bookmark
}

func (s step) String() string {
	if s.obj == nil {
		return fmt.Sprintf("%s %d", s.event, s.rev)
	}
	return fmt.Sprintf("%s %s/%s %d", s.event, s.obj.GetNamespace(), s.obj.GetName(), s.rev)
}

// segment is one connection of a watcher.
type segment struct {
	state []step // the objects of a list at revision from, or nil when there was no list
	from  int64
	steps []step
}

// follower is one watcher with all its connections. Its own goroutine fills it until followers are told to stop.
type follower struct {
	interest
	rnd      *rand.Rand
	segments []*segment
	reached  atomic.Int64
}

// TestHistory lets writers race on several kinds and holds what watchers see, who select in many ways, begin where they like and
// come back again and again, against the history that etcd itself tells: nothing lost, nothing twice, nothing out of order.
func TestHistory(t *testing.T) {
	c := testcluster.Start(t)
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	spaces := []string{a.namespace(t), a.namespace(t), a.namespace(t)}
	var seen atomic.Int64 // newest revision that a writer was told
	begin := newest(t, a)
	seen.Store(begin)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var followers []*follower
	var reading, writing sync.WaitGroup
	for i := range historyWatchers {
		rnd := rand.New(rand.NewPCG(historySeed, uint64(i)))
		k := &historyKinds[i%len(historyKinds)]
		f := &follower{rnd: rnd, interest: interest{kind: k, labels: []string{"", "a=0", "a in (1,2)", "a notin (0)", "a!=1"}[rnd.IntN(5)], fields: k.selectors[rnd.IntN(3)]}}
		if k.namespaced {
			f.ns = append(spaces, "")[rnd.IntN(4)]
		}
		followers = append(followers, f)
		reading.Go(func() {
			if err := f.follow(ctx, a, begin, &seen); err != nil && ctx.Err() == nil {
				t.Errorf("watching %s in %q with %q %q: %v", k.plural, f.ns, f.labels, f.fields, err)
			}
		})
	}
	for i := range historyWriters {
		writing.Go(func() { write(ctx, t, a, rand.New(rand.NewPCG(historySeed, uint64(1000+i))), spaces, &seen) })
	}
	writing.Wait()
	// A last object for every interest, so that each has something to wait for.
	for i := range historyKinds {
		k := &historyKinds[i]
		for _, ns := range spaces {
			for n := range 4 {
				body := k.body(rand.New(rand.NewPCG(historySeed, uint64(n))), fmt.Sprintf("end-%s-%d", ns, n))
				a.must(t, 201, "POST", k.path(ns), body)
			}
		}
	}
	last := newest(t, a)
	truth := map[*watched][]change{}
	for i := range historyKinds {
		truth[&historyKinds[i]] = etcdHistory(t, c.Etcd.Endpoint, &historyKinds[i], last)
	}
	want := make([][]step, len(followers))
	for i, f := range followers {
		want[i] = project(t, &f.interest, truth[f.kind])
		until(t, "a watcher reaches the end", func() bool {
			return t.Failed() || len(want[i]) == 0 || f.reached.Load() >= want[i][len(want[i])-1].rev
		})
	}
	cancel()
	reading.Wait()
	total, lists, restarts := 0, 0, 0
	for i, f := range followers {
		for _, s := range f.segments {
			total += len(s.steps)
			restarts++
			if s.state != nil {
				lists++
			}
			compare(t, f, s, want[i], truth[f.kind])
		}
	}
	t.Logf("%d revisions, %d events in %d connections of which %d began with a list", last-begin, total, restarts, lists)
	if total < 2000 || lists < 20 || restarts < 2*historyWatchers {
		t.Error("that is too little to prove anything")
	}
}

// newest is the present revision.
func newest(t *testing.T, a *api) int64 {
	t.Helper()
	m := a.must(t, 200, "GET", "/api/v1/namespaces", "")
	rev, err := strconv.ParseInt(at(m, "metadata.resourceVersion").(string), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// write makes historyWrites writes; that some fail, another having been faster, is as it should be.
func write(ctx context.Context, t *testing.T, a *api, rnd *rand.Rand, spaces []string, seen *atomic.Int64) {
	for range historyWrites {
		k := &historyKinds[rnd.IntN(len(historyKinds))]
		path, name := k.path(spaces[rnd.IntN(len(spaces))]), fmt.Sprintf("n%d", rnd.IntN(6))
		var r reply
		var err error
		switch p := rnd.IntN(20); {
		case p < 8:
			r, err = a.try(ctx, "POST", path, k.body(rnd, name))
		case p < 16:
			r, err = a.try(ctx, "PATCH", path+"/"+name, k.patch(rnd), "Content-Type", "application/merge-patch+json")
		case p < 19:
			r, err = a.try(ctx, "DELETE", path+"/"+name, "")
		default:
			r, err = a.try(ctx, "DELETE", path+"?labelSelector=a%3D1", "")
		}
		if err != nil || r.code >= 500 || r.code == 400 || r.code == 422 {
			t.Errorf("writing %s %s: %d %v %s", path, name, r.code, err, r.body)
			return
		}
		var m struct {
			Metadata struct{ ResourceVersion string }
		}
		if json.Unmarshal([]byte(r.body), &m) == nil {
			if rev, err := strconv.ParseInt(m.Metadata.ResourceVersion, 10, 64); err == nil && rev > seen.Load() {
				seen.Store(rev) // a little back and forth does no harm
			}
		}
	}
}

// follow watches until ctx ends, with connections of random lengths and beginnings.
func (f *follower) follow(ctx context.Context, a *api, begin int64, seen *atomic.Int64) error {
	at := int64(-1)
	for ctx.Err() == nil {
		s := &segment{}
		query := f.query() + "&watch=1&allowWatchBookmarks=true"
		switch how := f.rnd.IntN(10); {
		case at >= 0 && how < 6: // where the last one ended
			s.from = at
			query += fmt.Sprintf("&resourceVersion=%d", at)
		case how == 6: // at any time that was
			s.from = begin + f.rnd.Int64N(seen.Load()-begin+1)
			query += fmt.Sprintf("&resourceVersion=%d", s.from)
		case how == 7: // with a list, and what comes after it
			if err := f.list(ctx, a, s); err != nil {
				return err
			}
			query += fmt.Sprintf("&resourceVersion=%d", s.from)
		default: // with the state in the stream
			s.from = -1
			query += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
			if how == 8 {
				query += "&resourceVersion=0"
			}
		}
		most := f.rnd.IntN(30)
		if err := f.read(ctx, a, s, query, most); err != nil {
			return err
		}
		if s.from < 0 {
			continue // cut before its state was whole
		}
		f.segments = append(f.segments, s)
		at = s.from
		for _, e := range s.steps {
			at = e.rev
		}
	}
	return nil
}

func (f *follower) list(ctx context.Context, a *api, s *segment) error {
	r, err := a.try(ctx, "GET", f.kind.path(f.ns)+"?"+f.query(), "")
	if err != nil {
		return err
	}
	var l struct {
		Metadata metav1.ListMeta
		Items    []json.RawMessage
	}
	if err := json.Unmarshal([]byte(r.body), &l); err != nil {
		return err
	}
	s.state = []step{}
	for _, raw := range l.Items {
		e, err := f.step("ADDED", raw)
		if err != nil {
			return err
		}
		s.state = append(s.state, e)
	}
	s.from, err = strconv.ParseInt(l.Metadata.ResourceVersion, 10, 64)
	return err
}

func (f *follower) step(event string, raw []byte) (step, error) {
	o := f.kind.empty()
	if err := json.Unmarshal(raw, o); err != nil {
		return step{}, err
	}
	rev, err := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	return step{event, rev, o}, err
}

// read fills a segment from one connection, which it cuts after most events.
func (f *follower) read(ctx context.Context, a *api, s *segment, query string, most int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", a.URL()+f.kind.path(f.ns)+"?"+query, nil)
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil // cut
	}
	defer resp.Body.Close()
	var state []step
	in := json.NewDecoder(resp.Body)
	for n := 0; ; n++ {
		var e struct {
			Type   string
			Object json.RawMessage
		}
		// The last connections go on to the end: nobody is to wait for a new one.
		if n >= most && f.rnd.IntN(4) != 0 || in.Decode(&e) != nil {
			return nil
		}
		if e.Type == "ERROR" {
			return fmt.Errorf("the stream said %s", e.Object)
		}
		got, err := f.step(e.Type, e.Object)
		if err != nil {
			return err
		}
		switch {
		case e.Type == "BOOKMARK" && s.from < 0 && got.obj.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true":
			s.state, s.from = append([]step{}, state...), got.rev
		case s.from < 0:
			state = append(state, got)
			n--
			continue
		case e.Type == "BOOKMARK":
			got.obj = nil
			fallthrough
		default:
			s.steps = append(s.steps, got)
		}
		if got.rev > f.reached.Load() {
			f.reached.Store(got.rev)
		}
	}
}
