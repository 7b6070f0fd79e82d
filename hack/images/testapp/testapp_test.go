package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRoutes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sick")
	s := &server{opts: options{failFile: file}}
	srv := httptest.NewServer(s.routes())
	defer srv.Close()
	t.Setenv("VERSION", "7")
	call := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(string(body))
	}
	steps := []struct {
		method, path string
		code         int
		body         string // "": any
	}{
		{"GET", "/version", 200, "7"},
		{"GET", "/hostname", 200, hostname()},
		{"GET", "/clientip", 200, "127.0.0.1"},
		{"GET", "/echo?msg=hello", 200, "hello"},
		{"GET", "/delay?for=1ms", 200, ""},
		{"GET", "/delay?for=never", 400, ""},
		{"GET", "/file?path=/no/such", 404, ""},
		{"GET", "/nothing", 404, ""},
		{"GET", "/readyz", 200, ""},
		{"POST", "/ready?is=false", 200, ""},
		{"GET", "/readyz", 503, ""},
		{"GET", "/healthz", 200, ""},
		{"POST", "/ready?is=true", 200, ""},
		{"GET", "/readyz", 200, ""},
		{"POST", "/health?is=false", 200, ""},
		{"GET", "/healthz", 503, ""},
		{"POST", "/health?is=true", 200, ""},
		{"GET", "/healthz", 200, ""},
	}
	for _, st := range steps {
		if code, body := call(st.method, st.path); code != st.code || st.body != "" && body != st.body {
			t.Errorf("%s %s: %d %q, want %d %q", st.method, st.path, code, body, st.code, st.body)
		}
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _ := call("GET", "/healthz"); code != 503 {
		t.Errorf("/healthz with the file there: %d, want 503", code)
	}
}

func TestEchoUDP(t *testing.T) {
	// A free port, given back for the server to take.
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := probe.LocalAddr().(*net.UDPAddr).Port
	addr := probe.LocalAddr().String()
	probe.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := echoUDP(ctx, port); err != nil {
		t.Fatal(err)
	}
	got, err := call(ctx, "udp://"+addr, options{timeout: 5 * time.Second, text: "hi"})
	if err != nil || got != hostname()+" hi" {
		t.Errorf("%q, %v; want our name and what was sent", got, err)
	}
}

func TestConnectReportsFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, target := range []string{"tcp://" + addr, "http://" + addr, "nonsense"} {
		if err := connect(t.Context(), options{args: []string{target}, count: 1, timeout: time.Second}); err == nil {
			t.Errorf("connect %s to nobody succeeded", target)
		}
	}
}
