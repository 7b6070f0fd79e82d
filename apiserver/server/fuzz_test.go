package server_test

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"sigs.k8s.io/yaml"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/filters"
	"pilothouse.dev/apiserver/handlers"
	"pilothouse.dev/apiserver/openapi"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources"
	"pilothouse.dev/apiserver/server"
	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/pkg/health"
)

// shelf is a store in memory, for requests that no etcd is needed for: it has no history.
type shelf struct {
	kind storage.Kind
	of   *shelves
}

type shelves struct {
	mu  sync.Mutex
	rev int64
	all map[string]map[storage.Key]*storage.Entry // by group and plural
}

func (s *shelves) Store(k storage.Kind) storage.Store { return &shelf{k, s} }

func (s *shelf) name() string { return s.kind.Group + "/" + s.kind.Plural }

func (s *shelf) Get(_ context.Context, key storage.Key, r storage.Read) (*storage.Entry, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if r.Revision > s.of.rev {
		return nil, &storage.TooNew{Asked: r.Revision, Current: s.of.rev}
	}
	if e := s.of.all[s.name()][key]; e != nil {
		return e, nil
	}
	return nil, storage.ErrNotFound
}

func (s *shelf) List(_ context.Context, o storage.ListOptions) (*storage.Page, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	var after storage.Key
	if o.Continue != "" {
		t, err := storage.ParseToken(o.Continue, s.kind, o.Namespace)
		if err != nil {
			return nil, err
		}
		after = t.After
	}
	p := &storage.Page{Revision: s.of.rev}
	for key, e := range s.of.all[s.name()] {
		if o.Matches(e) && key.Compare(after) > 0 {
			p.Entries = append(p.Entries, e)
		}
	}
	slices.SortFunc(p.Entries, func(a, b *storage.Entry) int { return a.Key.Compare(b.Key) })
	if n := int64(len(p.Entries)); o.Limit > 0 && n > o.Limit {
		p.Entries = p.Entries[:o.Limit]
		p.Continue = storage.Token{Revision: p.Revision, After: p.Entries[o.Limit-1].Key}.String()
	}
	return p, nil
}

// Watch tells what is there, and then that it ends.
func (s *shelf) Watch(ctx context.Context, o storage.WatchOptions) (storage.Watcher, error) {
	p, err := s.List(ctx, storage.ListOptions{Selector: o.Selector})
	if err != nil {
		return nil, err
	}
	w := &shelfWatch{}
	for _, e := range p.Entries {
		w.events = append(w.events, storage.Event{Type: storage.Added, Entry: e, Revision: e.Revision})
	}
	w.events = append(w.events, storage.Event{Type: storage.Bookmark, Revision: p.Revision, InitialEnd: true})
	return w, nil
}

type shelfWatch struct{ events []storage.Event }

func (w *shelfWatch) Next(context.Context) ([]storage.Event, error) {
	if len(w.events) == 0 {
		return nil, storage.ErrCompacted
	}
	all := w.events
	w.events = nil
	return all, nil
}
func (w *shelfWatch) Close() {}

func (s *shelf) put(key storage.Key, value []byte, ok func(had *storage.Entry) error) (*storage.Entry, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	m := s.of.all[s.name()]
	if m == nil {
		m = map[storage.Key]*storage.Entry{}
		s.of.all[s.name()] = m
	}
	if err := ok(m[key]); err != nil {
		return nil, err
	}
	s.of.rev++
	if value == nil {
		was := m[key]
		delete(m, key)
		return &storage.Entry{Key: key, Revision: s.of.rev, Value: was.Value, Attrs: was.Attrs}, nil
	}
	a, err := s.kind.Attrs(key, value)
	if err != nil {
		return nil, err
	}
	e := &storage.Entry{Key: key, Revision: s.of.rev, Value: value, Attrs: a}
	m[key] = e
	return e, nil
}

func (s *shelf) Create(_ context.Context, key storage.Key, value []byte, _ time.Duration) (*storage.Entry, error) {
	return s.put(key, value, func(had *storage.Entry) error {
		if had != nil {
			return storage.ErrExists
		}
		return nil
	})
}

func (s *shelf) at(expect int64) func(*storage.Entry) error {
	return func(had *storage.Entry) error {
		switch {
		case had == nil:
			return storage.ErrNotFound
		case had.Revision != expect:
			return &storage.Conflict{Current: had}
		}
		return nil
	}
}

func (s *shelf) Update(_ context.Context, key storage.Key, value []byte, expect int64, _ time.Duration) (*storage.Entry, error) {
	return s.put(key, value, s.at(expect))
}

func (s *shelf) Delete(_ context.Context, key storage.Key, expect int64) (*storage.Entry, error) {
	return s.put(key, nil, s.at(expect))
}

// inMemory is the whole chain of filters, the routes and the handlers over a store in memory, and the log of what went wrong.
func inMemory(t testing.TB) (http.RoundTripper, *shelves, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.ErrorLevel)
	log := zap.New(core)
	store := &shelves{all: map[string]map[storage.Key]*storage.Entry{}}
	reg := registry.New(store, resources.Table)
	metrics := prometheus.NewRegistry()
	s := server.New(server.Config{RequestTimeout: 10 * time.Second, Port: 6443}, server.Parts{
		Filters:  filters.Parts{May: authz.New(), Metrics: filters.NewMetrics(metrics), Log: log},
		Handlers: handlers.New(handlers.Parts{Registry: reg, Admission: admission.New(nil), Log: log, Draining: context.Background(), Metrics: metrics}),
		OpenAPI:  openapi.New(reg), Checks: &health.Checks{}, Metrics: metrics, Drain: func() {},
	}, log)
	return s.Loopback().Transport, store, logs
}

// FuzzRequest sends anything through everything: the answer is one that the client has earned, and nothing panics on the way.
func FuzzRequest(f *testing.F) {
	const (
		cms  = "/api/v1/namespaces/default/configmaps"
		pods = "/api/v1/namespaces/default/pods"
		deps = "/apis/apps/v1/namespaces/default/deployments"
	)
	pod := `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"1"}}}],"nodeSelector":{"a":"b"}}}`
	asYAML, err := yaml.JSONToYAML([]byte(pod))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range [][5]string{ // method, path and query, Content-Type, Accept, body
		{"GET", cms, "", js, ""}, {"GET", cms + "?limit=1&labelSelector=a%3Db", "", proto, ""}, {"GET", "/api/v1/pods?watch=1", "", proto, ""},
		{"GET", cms + "/there?pretty=1", "", "application/yaml", ""}, {"GET", cms, "", js + tableOf, ""}, {"GET", cms, "", "application/cbor" + listOf, ""},
		{"GET", "/api/v1/watch/configmaps?allowWatchBookmarks=1", "", js + tableOf, ""}, {"GET", cms + "?watch=1", "", "application/cbor-seq", ""},
		{"POST", cms + "?fieldValidation=Strict", js, js, `{"metadata":{"generateName":"a"},"data":{"k":"v"}}`},
		{"POST", pods + "?dryRun=All", js, proto, pod}, {"POST", pods, "application/yaml", js, string(asYAML)}, {"POST", deps, js, js, deployment("d", 2)},
		{"POST", "/api/v1/namespaces/default/services", js, js, `{"metadata":{"name":"s"},"spec":{"ports":[{"port":80,"targetPort":"x"}],"selector":{"a":"b"}}}`},
		{"POST", "/apis/networking.k8s.io/v1/namespaces/default/ingresses", js, js, `{"metadata":{"name":"i"},"spec":{"rules":[{"host":"a.b","http":{"paths":[{"path":"/","pathType":"Prefix"}]}}]}}`},
		{"POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", js, js, `{"metadata":{"name":"a.b.c"},"spec":{"group":"b.c","names":{"plural":"a","kind":"A"},"scope":"Namespaced","versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}`},
		{"POST", cms, proto, js, "k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12\x05\n\x03\n\x01x"}, {"POST", cms, "application/cbor", js, "\xd9\xd9\xf7\xa1hmetadata\xa1dnameax"},
		{"PUT", cms + "/there", js, js, `{"metadata":{"name":"there","resourceVersion":"1"},"data":{"a":"b"}}`},
		{"PUT", deps + "/there/status", js, js, deployment("there", 2)}, {"PUT", deps + "/there/scale", js, js, `{"metadata":{"name":"there"},"spec":{"replicas":3}}`},
		{"PATCH", cms + "/there", "application/merge-patch+json", js, `{"data":{"k":null}}`},
		{"PATCH", deps + "/there", "application/strategic-merge-patch+json", js, `{"spec":{"template":{"spec":{"containers":[{"name":"web","$patch":"delete"}]}}}}`},
		{"PATCH", deps + "/there", "application/json-patch+json", js, `[{"op":"replace","path":"/spec/replicas","value":4}]`},
		{"PATCH", deps + "/there?fieldManager=m&force=true", "application/apply-patch+yaml", js, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"there"},"spec":{"replicas":5}}`},
		{"DELETE", cms + "/there", js, js, `{"propagationPolicy":"Foreground","preconditions":{"uid":"x"}}`}, {"DELETE", cms + "?limit=1", "", js, ""},
		{"DELETE", deps + "/there?gracePeriodSeconds=0&dryRun=All", "", js, ""}, {"OPTIONS", "/", "", "", ""}, {"GET", "/apis", "", js + ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", ""},
		{"GET", "/api/v1/namespaces//pods/../x", "", "*/*;q=nan", ""}, {"GET", "/apis/apps/v1/", "", "", ""}, {"GET", "/openapi/v3", "", "", ""},
	} {
		f.Add(s[0], s[1], s[2], s[3], []byte(s[4]))
	}
	to, store, logs := inMemory(f)
	send := func(method string, u *url.URL, media, accept string, body []byte) (*http.Response, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		req := (&http.Request{Method: method, URL: u, Header: http.Header{}, Body: http.NoBody, ContentLength: int64(len(body))}).WithContext(ctx)
		if len(body) > 0 {
			req.Body = readCloser{bytes.NewReader(body)}
		}
		req.Header.Set("Content-Type", media)
		req.Header.Set("Accept", accept)
		return to.RoundTrip(req)
	}
	f.Fuzz(func(t *testing.T, method, path, media, accept string, body []byte) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" || strings.HasPrefix(u.Path, "/debug") || len(body) > 64<<10 {
			return // a server that reads from the network does not come to see it, or would profile itself
		}
		store.mu.Lock()
		store.all, store.rev = map[string]map[storage.Key]*storage.Entry{}, 0 // each input alone says what comes of it
		store.mu.Unlock()
		for path, seed := range map[string]string{cms: `{"metadata":{"name":"there"},"data":{"k":"v"}}`, deps: deployment("there", 1)} {
			if r, err := send("POST", &url.URL{Path: path}, js, js, []byte(seed)); err != nil || r.StatusCode != 201 {
				t.Fatalf("seeding %s: %v %v", path, r, err)
			}
		}
		r, err := send(method, u, media, accept, body)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.StatusCode == http.StatusInternalServerError || r.StatusCode < 200 {
			var text bytes.Buffer
			_, _ = text.ReadFrom(r.Body)
			t.Fatalf("%s %s: %d %s", method, path, r.StatusCode, text.String())
		}
		if all := logs.TakeAll(); len(all) > 0 {
			t.Fatalf("%s %s: %s %v", method, path, all[0].Message, all[0].ContextMap())
		}
	})
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }
