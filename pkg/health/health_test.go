package health

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestChecks(t *testing.T) {
	c := &Checks{}
	broken := errors.New("no answer")
	c.AddLive("ping", func(context.Context) error { return nil })
	c.AddReady("etcd", func(context.Context) error { return broken })
	c.AddReady("caches", func(context.Context) error { return nil })
	m := Mux(c, prometheus.NewRegistry(), func(r *http.Request) bool { return r.Header.Get("Friend") != "" })
	for _, q := range []struct {
		path, friend string
		code         int
		want         string
	}{
		{"/livez", "", 200, "ok"},
		{"/healthz", "", 200, "ok"},
		{"/livez?verbose", "", 200, "[+]ping ok\nlivez check passed"},
		{"/readyz", "", 500, "[-]etcd failed: no answer\n[+]caches ok\nreadyz check failed"},
		{"/readyz?exclude=etcd", "", 200, "ok"},
		{"/readyz/caches", "", 200, "ok"},
		{"/readyz/etcd", "", 500, "[-]etcd failed"},
		{"/readyz/nothing", "", 404, `no check is named "nothing"`},
		{"/metrics", "", 403, "certificate"},
		{"/metrics", "yes", 200, ""},
		{"/debug/pprof/", "", 403, "certificate"},
		{"/debug/pprof/", "yes", 200, "goroutine"},
	} {
		r := httptest.NewRequest(http.MethodGet, q.path, nil)
		r.Header.Set("Friend", q.friend)
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if w.Code != q.code || !strings.Contains(w.Body.String(), q.want) {
			t.Errorf("%s: got %d %q, want %d %q", q.path, w.Code, w.Body, q.code, q.want)
		}
	}
}

func TestPlainTextOnlyOnLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "198.18.0.1:0", "nonsense"} {
		if err := New(Config{Address: addr}, &Checks{}, prometheus.NewRegistry()).Run(t.Context()); err == nil {
			t.Errorf("%s was served without TLS", addr)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(Config{Address: "127.0.0.1:0"}, &Checks{}, prometheus.NewRegistry()).Run(ctx); err != nil {
		t.Errorf("loopback: %v", err)
	}
}
