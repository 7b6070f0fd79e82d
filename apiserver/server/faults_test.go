package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pilothouse.dev/pkg/testcluster"
)

// until asks again and again, up to a minute, for what must come about in the end.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come about: %s", what)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// TestEtcdAway takes etcd from under the server: what needs no etcd goes on, what does says so, and all comes back by itself.
func TestEtcdAway(t *testing.T) {
	c := testcluster.Start(t, "--request-timeout=3s")
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	path := fmt.Sprintf(cmPath, "default")
	m := a.must(t, 201, "POST", path, `{"metadata":{"name":"a"}}`)
	w := a.watch(t, path+"?watch=true&resourceVersion="+at(m, "metadata.resourceVersion").(string))

	c.Etcd.Kill()
	until(t, "readyz names etcd", func() bool {
		r, err := a.http.Get(a.URL() + "/readyz?verbose")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b := make([]byte, 4096)
		n, _ := r.Body.Read(b)
		return r.StatusCode == 500 && strings.Contains(string(b[:n]), "[-]etcd failed")
	})
	if code := a.do2(t, "GET", "/livez"); code != 200 {
		t.Errorf("livez without etcd: %d: a restart would not help", code)
	}
	if m := a.must(t, 200, "GET", path+"?resourceVersion=0", ""); len(at(m, "items").([]any)) != 1 {
		t.Errorf("a read from the cache: %v", m)
	}
	for _, call := range [][3]string{{"GET", path, ""}, {"POST", path, `{"metadata":{"name":"lost"}}`}} {
		if r := a.do(t, call[0], call[1], call[2]); r.code != 503 && r.code != 504 {
			t.Errorf("%s without etcd: %d %s", call[0], r.code, r.status.Message)
		}
	}

	if err := c.Etcd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "ready again", func() bool { return a.do2(t, "GET", "/readyz") == 200 })
	until(t, "a write succeeds", func() bool {
		return a.do(t, "POST", path, `{"metadata":{"name":"back"}}`).code == 201
	})
	for {
		_, obj := w.next() // the refused create may have happened after all; then it is told first
		if at(obj, "metadata.name") == "back" {
			break
		}
	}
}

// TestServerRestart kills the API server: what was acknowledged is there, and a client's watch from before either resumes or
// is told to list again, never left waiting.
func TestServerRestart(t *testing.T) {
	c := testcluster.Start(t)
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	path := fmt.Sprintf(cmPath, "default")
	m := a.must(t, 201, "POST", path, `{"metadata":{"name":"a"}}`)
	a.must(t, 201, "POST", path, `{"metadata":{"name":"b"}}`)
	c.KillAPIServer()
	if err := c.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	a.http.CloseIdleConnections()
	w := a.watch(t, path+"?watch=true&resourceVersion="+at(m, "metadata.resourceVersion").(string))
	if kind, obj := w.next(); kind == "ERROR" && fmt.Sprint(at(obj, "code")) != "410" || kind != "ERROR" && at(obj, "metadata.name") != "b" {
		t.Errorf("a watch from before: %s %v", kind, obj)
	}
	if l := a.must(t, 200, "GET", path, ""); len(at(l, "items").([]any)) != 2 {
		t.Errorf("after a restart: %v", l)
	}
}

// TestCompactedContinue asks for the next page of a list whose revision is gone: 410, with a token for the rest.
func TestCompactedContinue(t *testing.T) {
	c := testcluster.Start(t, "--etcd-compaction-interval=200ms")
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	path := fmt.Sprintf(cmPath, "default")
	for i := range 6 {
		a.must(t, 201, "POST", path, fmt.Sprintf(`{"metadata":{"name":"c%d"}}`, i))
	}
	first := a.must(t, 200, "GET", path+"?limit=2", "")
	next := "?limit=10&continue=" + url.QueryEscape(at(first, "metadata.continue").(string))
	n := 0
	var r reply
	until(t, "the token expires", func() bool {
		// The server keeps the states of the last lists in memory for their next pages: others push ours out.
		for range 20 {
			n++
			a.must(t, 200, "PATCH", path+"/c0", fmt.Sprintf(`{"data":{"n":"%d"}}`, n), "Content-Type", "application/merge-patch+json")
			a.must(t, 200, "GET", path+"?limit=1", "")
		}
		r = a.do(t, "GET", path+next, "")
		return r.code == 410
	})
	if r.status.Reason != "Expired" || r.status.Continue == "" || !strings.Contains(r.status.Message, "too old to display a consistent list result") {
		t.Fatalf("got %+v", r.status)
	}
	rest := a.must(t, 200, "GET", path+"?continue="+url.QueryEscape(r.status.Continue), "")
	if items := at(rest, "items").([]any); len(items) != 4 || at(items[0], "metadata.name") != "c2" {
		t.Errorf("the inconsistent rest: %v", rest)
	}
	old := a.watch(t, path+"?watch=true&resourceVersion="+at(first, "metadata.resourceVersion").(string))
	if kind, obj := old.next(); kind == "ERROR" && fmt.Sprint(at(obj, "code")) != "410" || kind != "ERROR" && at(obj, "metadata.name") != "c0" {
		t.Errorf("a watch from before: %s %v", kind, obj)
	}
}
