package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// receiver is a service that takes events.
type receiver struct {
	mu    sync.Mutex
	fail  int   // guarded by mu; so many posts are answered 503 first
	sizes []int // guarded by mu; events in each post
	ids   map[string]int
}

func (s *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var list auditv1.EventList
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&list); err != nil || list.Kind != "EventList" || list.APIVersion != Version {
		http.Error(w, fmt.Sprint(list.TypeMeta, err), http.StatusBadRequest)
		return
	}
	s.sizes = append(s.sizes, len(list.Items))
	for _, e := range list.Items {
		s.ids[string(e.AuditID)]++
	}
}

func hookConfig(t *testing.T, url string, b Buffering) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{PolicyFile: filepath.Join(dir, "policy"), Drain: 5 * time.Second}
	c.Webhook = WebhookConfig{File: filepath.Join(dir, "hook"), Backoff: time.Millisecond, Buffering: b}
	for file, text := range map[string]string{
		c.PolicyFile:   "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]",
		c.Webhook.File: "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"" + url + "\"}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestWebhook(t *testing.T) {
	s := &receiver{fail: 2, ids: map[string]int{}}
	server := httptest.NewServer(s)
	defer server.Close()
	c := hookConfig(t, server.URL, Buffering{Version: Version, Mode: Batch, Size: 1000, Max: 40, Wait: time.Hour})
	trail, err := New(c, prometheus.NewRegistry(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- trail.Run(ctx) }()
	for i := range 100 {
		if err := trail.send(ctx, event(fmt.Sprint(i))); err != nil {
			t.Error(err)
		}
	}
	cancel() // the rest goes out at the end
	if err := <-done; err != nil {
		t.Error(err)
	}
	for i := range 100 {
		if n := s.ids[fmt.Sprint(i)]; n != 1 {
			t.Errorf("event %d came %d times", i, n)
		}
	}
	for _, n := range s.sizes {
		if n > 40 {
			t.Errorf("posts of %v", s.sizes)
		}
	}
}

// A service that is not there costs events and nobody's time.
func TestDeadWebhook(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	trail, err := New(hookConfig(t, server.URL, Buffering{Version: Version, Mode: Batch, Size: 10, Max: 5}), prometheus.NewRegistry(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- trail.Run(ctx) }()
	for i := range 200 {
		if err := trail.send(ctx, event(fmt.Sprint(i))); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	lost := testutil.ToFloat64(trail.metrics.errors.WithLabelValues("webhook")) + testutil.ToFloat64(trail.metrics.errors.WithLabelValues("buffered"))
	if lost != 200 {
		t.Errorf("%v of 200 events are counted as lost", lost)
	}
}

func TestWebhookBatchSize(t *testing.T) {
	s := &receiver{ids: map[string]int{}}
	server := httptest.NewServer(s)
	defer server.Close()
	c := hookConfig(t, server.URL, Buffering{})
	c.Webhook.Truncation = Truncation{Enabled: true, MaxEvent: 1000, MaxBatch: 1000}
	w, err := newWebhook(c.Webhook)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(`{"auditID":"` + strings.Repeat("x", 400) + `"}`)
	if n, err := w.write(t.Context(), [][]byte{line, line, line, line, line}); n != 5 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if fmt.Sprint(s.sizes) != "[2 2 1]" {
		t.Errorf("posts of %v", s.sizes)
	}
}

func TestBadConfig(t *testing.T) {
	good := FileConfig{Path: "-", Format: JSON, Buffering: Buffering{Version: Version, Mode: Batch, Size: 1, Max: 1}}
	for name, change := range map[string]func(c *FileConfig){
		"--audit-log-mode":                       func(c *FileConfig) { c.Mode = "x" },
		"--audit-log-version":                    func(c *FileConfig) { c.Version = "audit.k8s.io/v1beta1" },
		"--audit-log-format":                     func(c *FileConfig) { c.Format = "x" },
		"--audit-log-batch-buffer-size":          func(c *FileConfig) { c.Size = 0 },
		"--audit-log-batch-max-size":             func(c *FileConfig) { c.Max = 0 },
		"--audit-log-batch-max-wait":             func(c *FileConfig) { c.Wait = -1 },
		"--audit-log-batch-throttle-qps":         func(c *FileConfig) { c.Throttle = true },
		"--audit-log-batch-throttle-burst":       func(c *FileConfig) { c.Throttle, c.QPS = true, 1 },
		"--audit-log-truncate-max-event-size":    func(c *FileConfig) { c.Enabled = true },
		"--audit-log-truncate-max-batch-size":    func(c *FileConfig) { c.Enabled, c.MaxEvent = true, 1 },
		"--audit-log-maxage":                     func(c *FileConfig) { c.MaxAge = -1 },
		"opening the audit log: mkdir /dev/null": func(c *FileConfig) { c.Path = "/dev/null/x/y" },
	} {
		c := good
		change(&c)
		if _, err := New(Config{Log: c}, prometheus.NewRegistry(), zap.NewNop()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{Log: good}, prometheus.NewRegistry(), zap.NewNop()); err != nil {
		t.Error(err)
	}
}
