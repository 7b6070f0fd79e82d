package server_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// soon bounds what has to happen: far longer than anything here may take.
const soon = time.Minute

// TestSlowClients has clients that are slow in every way there is, on a server with one seat for them and short deadlines. Each is cut in time, and
// costs nobody else: as long as he is slow, others have his seat.
func TestSlowClients(t *testing.T) {
	a := started(t, "--request-timeout=2s", "--max-requests-inflight=20", "--max-mutating-requests-inflight=10", "--max-connections=40")
	a.tinyLevel(t, `{"type":"Reject"}`)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"body, HTTP/1", testSlowBody1}, {"body, HTTP/2", testSlowBody2}, {"reader, HTTP/1", testSlowReader1}, {"reader, HTTP/2", testSlowReader2},
		{"watcher", testStillWatcher}, {"kept connection", testKeptConnection}, {"bombs", testBombs}, {"connections", testConnections},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
	if strings.Contains(a.Said(), "request panicked") {
		t.Errorf("a request panicked: %s", a.Said())
	}
}

// dial opens a connection of the scheduler's and speaks HTTP/1.1 on it by hand.
func (a *api) dial(t *testing.T) *tls.Conn {
	t.Helper()
	cfg := a.TLSOf(scheduler)
	cfg.NextProtos = []string{"http/1.1"}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: soon}, "tcp", strings.TrimPrefix(a.URL(), "https://"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	return c
}

// free waits until others of the level have its only seat, though there is a request that came before.
func (a *api) free(t *testing.T) {
	t.Helper()
	s := a.as(t, scheduler)
	until(t, "the seat of the slow one is free", func() bool { return s.do(t, "GET", "/api/v1/nodes", "").code == 200 })
}

const eventsPath = "/api/v1/namespaces/default/events"

func event(name string) string {
	return `{"metadata":{"name":"` + name + `"},"involvedObject":{"namespace":"default"},"reason":"` + strings.Repeat("r", 100) + `"}`
}

func testSlowBody1(t *testing.T, a *api) {
	c := a.dial(t)
	body := event("one")
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", eventsPath, len(body), body[:10])
	a.free(t)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		if err != nil || resp.StatusCode != 400 {
			t.Errorf("answered %d, %v", resp.StatusCode, err)
		}
	} else if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("neither answered nor cut: %v", err)
	}
	if r := a.do(t, "GET", eventsPath+"/one", ""); r.code != 404 {
		t.Errorf("half an event: %d", r.code)
	}
	// One that comes to its end in time gets a seat again.
	c = a.dial(t)
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", eventsPath, len(body), body[:10])
	a.free(t)
	fmt.Fprint(c, body[10:])
	if resp, err = http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 201 {
		t.Errorf("late, but in time: %v, %v", resp, err)
	}
}

func testSlowBody2(t *testing.T, a *api) {
	s := a.as(t, scheduler)
	s.http.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	from, to := io.Pipe()
	defer to.Close()
	type answer struct {
		resp *http.Response
		err  error
	}
	done := make(chan answer, 1)
	req, err := http.NewRequestWithContext(t.Context(), "POST", a.URL()+eventsPath, from)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	go func() {
		resp, err := s.http.Do(req)
		done <- answer{resp, err}
	}()
	if _, err := to.Write([]byte(event("two")[:10])); err != nil {
		t.Fatal(err)
	}
	a.free(t)
	s.do(t, "GET", "/api/v1/nodes", "") // on the same connection
	select {
	case got := <-done:
		if got.err == nil {
			got.resp.Body.Close()
			if got.resp.StatusCode != 400 {
				t.Errorf("answered %d", got.resp.StatusCode)
			}
		}
	case <-time.After(soon):
		t.Error("neither answered nor cut")
	}
}

// long is the path of a list of some 9 MB: more than the buffers of a connection hold.
func (a *api) long(t *testing.T) (path string) {
	t.Helper()
	path = "/api/v1/namespaces/slow/services"
	if a.do(t, "GET", "/api/v1/namespaces/slow", "").code == 404 {
		a.must(t, 201, "POST", "/api/v1/namespaces", `{"metadata":{"name":"slow"}}`)
		for i := range 45 {
			a.must(t, 201, "POST", path, fmt.Sprintf(`{"metadata":{"name":"s%d","annotations":{"a":%q}},"spec":{"ports":[{"port":80}]}}`, i, strings.Repeat("x", 200<<10)))
		}
	}
	return path
}

// cut waits until no other request is being answered than the one that asks for that.
func (a *api) cut(t *testing.T) {
	t.Helper()
	until(t, "the slow request is over", func() bool {
		return strings.Contains(a.raw(t, "GET", "/metrics", "").body, `apiserver_current_inflight_requests{request_kind="readOnly"} 1`+"\n")
	})
}

// isCut reads a body that must break off.
func isCut(t *testing.T, resp *http.Response) {
	t.Helper()
	n, err := io.Copy(io.Discard, resp.Body)
	if timeout := net.Error(nil); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("it was not cut, though nobody read it for long: %d bytes, then %v", n, err)
	}
}

func testSlowReader1(t *testing.T, a *api) {
	path := a.long(t)
	c := a.dial(t)
	if err := c.NetConn().(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil) // and no more than the header
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v: %v", err, resp)
	}
	a.free(t)
	a.cut(t)
	isCut(t, resp)
}

func testSlowReader2(t *testing.T, a *api) {
	s := a.as(t, scheduler)
	s.http.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	req, err := http.NewRequestWithContext(t.Context(), "GET", a.URL()+a.long(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := s.http.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v: %v", err, resp)
	}
	defer resp.Body.Close()
	a.free(t)
	if r := s.do(t, "GET", "/api/v1/nodes", ""); r.code != 200 { // on the same connection
		t.Errorf("beside it: %d", r.code)
	}
	a.cut(t)
	isCut(t, resp)
	if r := s.do(t, "GET", "/api/v1/nodes", ""); r.code != 200 {
		t.Errorf("after it: %d", r.code)
	}
}

// A watcher that takes nothing is cut, however long it might have watched; one that takes all goes on, beyond the time of other requests.
func testStillWatcher(t *testing.T, a *api) {
	path := a.long(t)
	s := a.as(t, scheduler)
	s.http.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	reads := a.watch(t, "/api/v1/namespaces/slow/configmaps?watch=1")
	c := a.dial(t)
	if err := c.NetConn().(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET %s?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n", path)
	one, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || one.StatusCode != 200 {
		t.Fatalf("%v: %v", err, one)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", a.URL()+path+"?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	a.free(t)
	two, err := s.http.Do(req)
	if err != nil || two.StatusCode != 200 {
		t.Fatalf("%v: %v", err, two)
	}
	defer two.Body.Close()
	a.free(t)
	until(t, "both are cut", func() bool {
		for line := range strings.Lines(a.raw(t, "GET", "/metrics", "").body) {
			if strings.HasPrefix(line, "apiserver_longrunning_requests{") && strings.Contains(line, `"services"`) {
				return strings.HasSuffix(line, " 0\n")
			}
		}
		return false
	})
	for _, resp := range []*http.Response{one, two} {
		isCut(t, resp)
	}
	a.must(t, 201, "POST", "/api/v1/namespaces/slow/configmaps", `{"metadata":{"name":"a"}}`)
	reads.expect("ADDED a")
}

// The deadlines of one request are not those of the next on the same connection.
func testKeptConnection(t *testing.T, a *api) {
	c := a.dial(t)
	in := bufio.NewReader(c)
	ask := func(path string) *http.Response {
		t.Helper()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %v", path, err)
		}
		return resp
	}
	for range 2 {
		if _, err := io.Copy(io.Discard, ask("/api/v1/nodes").Body); err != nil {
			t.Fatal(err)
		}
	}
	watch := ask("/api/v1/nodes?watch=1&timeoutSeconds=5&allowWatchBookmarks=true") // longer than a request may take, with its grace
	if _, err := io.Copy(io.Discard, watch.Body); err != nil {
		t.Errorf("the watch ended before its time: %v", err)
	}
	ask("/api/v1/nodes")
}

// Bodies are taken as they are: what is compressed is no object, however long it would become.
func testBombs(t *testing.T, a *api) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, nothings{}, 100<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, coding := range []string{"gzip", "deflate", "br"} {
		if r := a.do(t, "POST", eventsPath, bomb.String(), "Content-Encoding", coding); r.code != 400 && r.code != 415 {
			t.Errorf("%s: %d %s", coding, r.code, r.status.Message)
		}
	}
	if r := a.do(t, "POST", eventsPath, bomb.String(), "Content-Encoding", "gzip", "Content-Type", "application/yaml"); r.code != 400 {
		t.Errorf("YAML: %d %s", r.code, r.status.Message)
	}
	// A short object, compressed, is refused too: nobody unpacks bodies.
	bomb.Reset()
	z.Reset(&bomb)
	_, _ = io.WriteString(z, event("zipped"))
	_ = z.Close()
	if r := a.do(t, "POST", eventsPath, bomb.String(), "Content-Encoding", "gzip"); r.code != 400 {
		t.Errorf("compressed: %d %s", r.code, r.status.Message)
	}
}

type nothings struct{}

func (nothings) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Who opens connections and says nothing takes as many as there may be, and no more; when they are gone, there is room again.
func testConnections(t *testing.T, a *api) {
	a.must(t, 200, "GET", "/api/v1/nodes", "")
	address := strings.TrimPrefix(a.URL(), "https://")
	var all []net.Conn
	for range 60 {
		c, err := net.DialTimeout("tcp", address, soon)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
	}
	last := all[len(all)-1]
	if err := last.SetReadDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	if _, err := last.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("the last connection was not closed: %v", err)
	} else if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the last connection was not closed: %v", err)
	}
	if metrics := a.raw(t, "GET", "/metrics", "").body; strings.Contains(metrics, "apiserver_connections_refused_total 0\n") || !strings.Contains(metrics, "apiserver_connections_refused_total ") {
		t.Error("no connection is counted as refused")
	}
	for _, c := range all {
		c.Close()
	}
	fresh := a.as(t, "somebody")
	until(t, "there is room again", func() bool {
		r, err := fresh.try(t.Context(), "GET", "/api/v1/nodes", "")
		return err == nil && r.code == 403
	})
}
