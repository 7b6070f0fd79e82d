package filters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/request"
)

// recording is a trail at Metadata whose Run is under way; end stops it and returns what it wrote.
func recording(t testing.TB, path, mode string) (trail *audit.Trail, end func() []auditv1.Event) {
	t.Helper()
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: None\n  verbs: [delete]\n- level: Metadata\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if path == "" {
		path = filepath.Join(dir, "audit.log")
	}
	cfg := audit.Config{PolicyFile: policy, Drain: 10 * time.Second}
	cfg.Log = audit.FileConfig{Path: path, Format: audit.JSON, Buffering: audit.Buffering{Version: audit.Version, Mode: mode, Size: 100000, Max: 100}}
	trail, err := audit.New(cfg, prometheus.NewRegistry(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- trail.Run(ctx) }()
	return trail, func() (all []auditv1.Event) {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for d := json.NewDecoder(f); ; {
			var e auditv1.Event
			if err := d.Decode(&e); errors.Is(err, io.EOF) {
				return all
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
	}
}

func chained(p Parts, last http.HandlerFunc) http.Handler {
	var h http.Handler = last
	for _, f := range []Filter{Authorize(p), Impersonate(p), Audit(p), Authenticate(p), Deadline(p, time.Minute), Measure(p), Info(p), Recover(p)} {
		h = f(h)
	}
	return h
}

// Of a thousand requests at the same time, whatever becomes of them, each has each of its stages once.
func TestAuditOnce(t *testing.T) {
	trail, end := recording(t, "", audit.Batch)
	p := Parts{Who: authn.New(), May: authz.New(), Audit: trail, Metrics: NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop()}
	h := chained(p, func(w http.ResponseWriter, r *http.Request) {
		switch i := request.InfoOf(r.Context()); i.Name {
		case "panic":
			panic("a bug")
		case "late-panic":
			w.WriteHeader(http.StatusOK)
			panic("a bug")
		case "cut":
			w.WriteHeader(http.StatusOK)
			panic(http.ErrAbortHandler)
		case "silent":
		case "missing":
			w.WriteHeader(http.StatusNotFound)
		case "early":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusConflict)
		default:
			if i.Verb == "watch" && i.Resource == "nothing" {
				return
			}
			_, _ = w.Write([]byte("x"))
		}
	})
	received, started, complete, panicked := auditv1.StageRequestReceived, auditv1.StageResponseStarted, auditv1.StageResponseComplete, auditv1.StagePanic
	kinds := []struct {
		path, token, user string
		code              int32
		stages            []auditv1.Stage
	}{
		{"/api/v1/things/x", "", "root", 200, []auditv1.Stage{received, complete}},
		{"/api/v1/things/missing", "", "root", 404, []auditv1.Stage{received, complete}},
		{"/api/v1/things/early", "", "root", 409, []auditv1.Stage{received, complete}},
		{"/api/v1/things/silent", "", "root", 200, []auditv1.Stage{received, complete}},
		{"/api/v1/things/panic", "", "root", 500, []auditv1.Stage{received, panicked}},
		{"/api/v1/things/late-panic", "", "root", 500, []auditv1.Stage{received, panicked}},
		{"/api/v1/things/cut", "", "root", 200, []auditv1.Stage{received, complete}},
		{"/api/v1/things?watch=1", "", "root", 200, []auditv1.Stage{received, started, complete}},
		{"/api/v1/nothing?watch=1", "", "root", 200, []auditv1.Stage{received, started, complete}},
		{"/api/v1/things/x", "", "alice", 403, []auditv1.Stage{received, complete}},
		{"/api/v1/things/x", "bad", "", 401, []auditv1.Stage{received, complete}},
		{"/api/v1/things/x?timeout=bad", "", "root", 400, []auditv1.Stage{received, complete}},
	}
	const all = 1000
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() {
			k := kinds[i%len(kinds)]
			r := httptest.NewRequest(http.MethodGet, k.path, nil)
			r.Header.Set("Audit-ID", fmt.Sprint(i))
			switch {
			case k.token != "":
				r.Header.Set("Authorization", "Bearer "+k.token)
			case k.user == "root":
				r = r.WithContext(request.WithUser(r.Context(), &request.User{Name: k.user, Groups: []string{authz.Masters}}))
			default:
				r = r.WithContext(request.WithUser(r.Context(), &request.User{Name: k.user}))
			}
			defer func() {
				if cause := recover(); cause != nil && !strings.HasSuffix(k.path, "/cut") {
					t.Errorf("%s: %v", k.path, cause)
				}
			}()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Header().Get("Audit-ID") != fmt.Sprint(i) {
				t.Errorf("%s: Audit-ID %q", k.path, w.Header().Get("Audit-ID"))
			}
		})
	}
	group.Wait()
	byID := map[string][]auditv1.Event{}
	for _, e := range end() {
		byID[string(e.AuditID)] = append(byID[string(e.AuditID)], e)
	}
	if len(byID) != all {
		t.Errorf("%d requests of %d", len(byID), all)
	}
	for i := range all {
		k, events := kinds[i%len(kinds)], byID[fmt.Sprint(i)]
		var stages []auditv1.Stage
		for _, e := range events {
			stages = append(stages, e.Stage)
		}
		if !slices.Equal(stages, k.stages) {
			t.Errorf("%d, %s: stages %v, want %v", i, k.path, stages, k.stages)
			continue
		}
		if last := events[len(events)-1]; last.ResponseStatus.Code != k.code || k.code != 400 && last.User.Username != k.user {
			t.Errorf("%d, %s: user %q, status %+v, want %d", i, k.path, last.User.Username, last.ResponseStatus, k.code)
		}
	}
}

// When the first event of a request cannot be written, and that must be, the request is refused and nothing is done for it.
func TestAuditStrict(t *testing.T) {
	for mode, code := range map[string]int{audit.Strict: 500, audit.Blocking: 200, audit.Batch: 200} {
		t.Run(mode, func(t *testing.T) {
			trail, _ := recording(t, "/dev/full", mode)
			p := Parts{Who: authn.New(), May: authz.New(), Audit: trail, Metrics: NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop()}
			reached := false
			h := chained(p, func(w http.ResponseWriter, r *http.Request) { reached = true })
			r := httptest.NewRequest(http.MethodGet, "/api/v1/things/x", nil)
			r = r.WithContext(request.WithUser(r.Context(), &request.User{Name: "root", Groups: []string{authz.Masters}}))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != code || reached != (code == 200) {
				t.Errorf("code %d, reached %v: %s", w.Code, reached, w.Body)
			}
		})
	}
}

// A connection that begins to carry a stream is the start of the response.
func TestAuditHijack(t *testing.T) {
	trail, end := recording(t, "", audit.Batch)
	p := Parts{Who: authn.New(), May: authz.New(), Audit: trail, Metrics: NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop()}
	h := chained(p, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
		_ = conn.Close()
	})
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		h.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), &request.User{Name: "root", Groups: []string{authz.Masters}})))
	}))
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/api/v1/namespaces/default/pods/p/exec", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "test")
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	<-done
	var got []string
	for _, e := range end() {
		code := int32(0)
		if e.ResponseStatus != nil {
			code = e.ResponseStatus.Code
		}
		got = append(got, fmt.Sprint(e.Stage, " ", code))
	}
	if want := []string{"RequestReceived 0", "ResponseStarted 101", "ResponseComplete 101"}; answer.StatusCode != 101 || !slices.Equal(got, want) {
		t.Errorf("%d, %v", answer.StatusCode, got)
	}
}

// What the whole chain costs without an audit policy, with one that leaves a request out, and with one that records it.
func BenchmarkAudit(b *testing.B) {
	for _, c := range []struct {
		name, method, mode string
	}{{"off", "GET", ""}, {"none", "DELETE", audit.Batch}, {"batch", "GET", audit.Batch}, {"blocking", "GET", audit.Blocking}} {
		b.Run(c.name, func(b *testing.B) {
			p := Parts{Who: authn.New(), May: authz.New(), Metrics: NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop()}
			if c.mode != "" {
				trail, end := recording(b, "/dev/null", c.mode)
				defer end()
				p.Audit = trail
			}
			h := chained(p, func(http.ResponseWriter, *http.Request) {})
			r := httptest.NewRequest(c.method, "/api/v1/namespaces/default/pods/x", nil)
			r = r.WithContext(request.WithUser(r.Context(), &request.User{Name: "root", Groups: []string{authz.Masters}}))
			w := nowhere{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}
