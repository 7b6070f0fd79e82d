package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/authz/rbac"
	"pilothouse.dev/apiserver/bootstrap/policy"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/filters"
	"pilothouse.dev/apiserver/flowcontrol"
	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/pkg/pki"
)

// told is a feed that tells some objects once.
type told struct {
	t    testing.TB
	said bool
	all  []storage.Event
}

func (f *told) Behind() bool               { return !f.said }
func (*told) Newest(context.Context) error { return nil }

func (f *told) Pull(_ context.Context, reset func(), each func(storage.Event)) error {
	f.said = true
	reset()
	for _, e := range f.all {
		each(e)
	}
	return nil
}

func tell[T codec.Object](t testing.TB, all []T) *told {
	f := &told{t: t}
	for _, o := range all {
		value, err := codec.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		f.all = append(f.all, storage.Event{Type: storage.Added, Entry: &storage.Entry{
			Key: storage.Key{Namespace: o.GetNamespace(), Name: o.GetName()}, Revision: 1, Value: value,
		}})
	}
	return f
}

// defaultRoles are those of a new cluster.
func defaultRoles(t testing.TB) authz.Source {
	p, err := policy.Load()
	if err != nil {
		t.Fatal(err)
	}
	return rbac.New(rbac.Feeds{
		Roles: tell(t, p.Roles), ClusterRoles: tell(t, p.ClusterRoles), RoleBindings: tell(t, p.RoleBindings), ClusterRoleBindings: tell(t, p.ClusterRoleBindings),
	})
}

// same is a cluster in which nothing changes, of flow control's objects the mandatory alone.
type same struct {
	schemas *flowcontrol.Schemas
	levels  *flowcontrol.Levels
}

func (s same) FlowSchemas(context.Context) (*flowcontrol.Schemas, error)   { return s.schemas, nil }
func (s same) PriorityLevels(context.Context) (*flowcontrol.Levels, error) { return s.levels, nil }
func (same) Size(schema.GroupVersionResource, string, int) int             { return 1000 }

// BenchmarkChain is what all filters together cost a request that they let through: with the default roles, and audit as it is by default
// (nothing is recorded) and at the level Metadata into a log. The bar is 60 µs a request.
func BenchmarkChain(b *testing.B) {
	log := zap.NewNop()
	authority, err := pki.EnsureAuthority(b.TempDir(), "ca")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		return path
	}
	who, err := authn.Open(authn.Config{ClientCAFile: file("ca.crt", string(authority.PEM().Cert))}, authn.Parts{Metrics: prometheus.NewRegistry(), Log: log})
	if err != nil {
		b.Fatal(err)
	}
	pair, err := authority.Issue(pki.Identity{Name: "system:kube-scheduler", Client: true}, 0)
	if err != nil {
		b.Fatal(err)
	}
	client, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		b.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(client.Certificate[0])
	if err != nil {
		b.Fatal(err)
	}
	nothing := same{flowcontrol.Order(nil), flowcontrol.Gather(nil)}
	gate, _, err := flowcontrol.New(flowcontrol.Config{Fair: true, Reading: 400, Changing: 200}, nothing, nothing)
	if err != nil {
		b.Fatal(err)
	}
	quiet, err := audit.New(audit.Config{}, prometheus.NewRegistry(), log)
	if err != nil {
		b.Fatal(err)
	}
	loud, err := audit.New(audit.Config{
		PolicyFile: file("policy.yaml", "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [{level: Metadata}]}"),
		Log: audit.FileConfig{
			Path: filepath.Join(dir, "audit.log"), Format: audit.JSON,
			Buffering: audit.Buffering{Version: audit.Version, Mode: audit.Batch, Size: 10000, Max: 400, Wait: time.Second},
		},
	}, prometheus.NewRegistry(), log)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var writer sync.WaitGroup
	writer.Go(func() { _ = loud.Run(ctx) })
	defer writer.Wait()
	defer cancel()
	for _, c := range []struct {
		name  string
		trail *audit.Trail
	}{{"plain", quiet}, {"audited", loud}} {
		p := filters.Parts{
			Who: who, May: authz.New(defaultRoles(b)), Audit: c.trail, Flow: gate, Metrics: filters.NewMetrics(prometheus.NewRegistry()), Log: log,
		}
		served := 0
		h := chain(Config{RequestTimeout: time.Minute}, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served++
			w.WriteHeader(http.StatusOK)
		}))
		for _, q := range []struct{ name, method, path, body string }{
			{"get", "GET", "/api/v1/nodes/a", ""},
			{"list", "GET", "/api/v1/pods?limit=500&resourceVersion=0", ""},
			{"create", "POST", "/api/v1/namespaces/default/events", "{}"},
		} {
			b.Run(c.name+"/"+q.name, func(b *testing.B) {
				r := httptest.NewRequest(q.method, q.path, strings.NewReader(q.body))
				r.ProtoMajor, r.ProtoMinor = 2, 0
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
				r = r.WithContext(authn.Remember(r.Context(), nil))
				w := &answer{header: http.Header{}}
				served = 0
				b.ReportAllocs()
				for b.Loop() {
					clear(w.header)
					h.ServeHTTP(w, r)
				}
				if served == 0 || w.code != http.StatusOK {
					b.Fatalf("answered %d: %s", w.code, w.last)
				}
			})
		}
	}
}

// answer keeps what was said last, and costs nothing.
type answer struct {
	header http.Header
	code   int
	last   []byte
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(b []byte) (int, error) { a.last = b; return len(b), nil }
