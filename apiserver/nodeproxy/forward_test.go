package nodeproxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// one is a cluster of one node.
type one struct{ addresses []corev1.NodeAddress }

func (o one) Node(_ context.Context, name string) (*corev1.Node, error) {
	if name != "n" {
		return nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Addresses: o.addresses}}, nil
}

// front is a server that passes everything under /front/proxy on to the target, whatever address the target is said to have.
func front(t *testing.T, target http.Handler) *httptest.Server {
	t.Helper()
	back := httptest.NewServer(target)
	t.Cleanup(back.Close)
	p, err := New(Config{}, one{})
	if err != nil {
		t.Fatal(err)
	}
	p.anybody.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, back.Listener.Addr().String())
	}
	t.Cleanup(p.anybody.CloseIdleConnections)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.EscapedPath(), "/front/proxy")
		if err := p.Forward(w, r, Target{Scheme: "http", Host: "pod.test:80", Path: path, Prefix: "/front/proxy"}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestForwardRequest(t *testing.T) {
	s := front(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("X-Own", "kept")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintln(w, r.Method, r.RequestURI, r.Header.Get("X-Mine"), r.Header.Get("Authorization"), r.Header.Get("X-Forwarded-For"),
			r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Uri"), string(body))
	}))
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/front/proxy/a%2Fb//c/?x=1&y=%20;z", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Mine", "mine")
		req.Header.Set("Authorization", "Bearer secret")
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want := method + " /a%2Fb//c/?x=1&y=%20;z mine  127.0.0.1 http /front/proxy/a%2Fb//c/ body\n"
		if resp.StatusCode != http.StatusTeapot || string(text) != want {
			t.Errorf("got %d %q, want %q", resp.StatusCode, text, want)
		}
		if resp.Header.Get("X-Own") != "kept" || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("headers: %v", resp.Header)
		}
	}
}

func TestForwardUpgrade(t *testing.T) {
	s := front(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			t.Errorf("no upgrade asked: %v", r.Header)
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if err := rw.Flush(); err != nil {
			t.Error(err)
		}
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		fmt.Fprint(rw, "echo "+line)
		if err := rw.Flush(); err != nil {
			t.Error(err)
		}
	}))
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /front/proxy/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "hello\n")
	line, err := r.ReadString('\n')
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || line != "echo hello\n" {
		t.Errorf("got %d %q %v", resp.StatusCode, line, err)
	}
}

func TestForwardFailures(t *testing.T) {
	p, err := New(Config{}, one{})
	if err != nil {
		t.Fatal(err)
	}
	try := func(host string) error {
		return p.Forward(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), Target{Scheme: "http", Host: host, Path: "/"})
	}
	if err := try("127.0.0.1:1"); !apierrors.IsBadRequest(err) || err.Error() != "address not allowed" {
		t.Errorf("our own host: %v", err)
	}
	if err := try("localhost:1"); !apierrors.IsBadRequest(err) {
		t.Errorf("our own host by its name: %v", err)
	}
	p.anybody.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }
	if err := try("10.0.0.1:1"); !apierrors.IsServiceUnavailable(err) || err.Error() != "error trying to reach service: unexpected EOF" {
		t.Errorf("nobody there: %v", err)
	}
}

func TestAllowed(t *testing.T) {
	for address, ok := range map[string]bool{
		"10.244.1.2": true, "198.18.0.2": true, "fd00::1": true, "8.8.8.8": true,
		"127.0.0.1": false, "::1": false, "::ffff:127.0.0.1": false, "169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false,
		"0.0.0.0": false, "::": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "": false, "host": false,
	} {
		if err := Allowed(address); (err == nil) != ok || err != nil && !apierrors.IsBadRequest(err) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestKubelet(t *testing.T) {
	p, err := New(Config{}, one{[]corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "198.18.0.2"}}})
	if err != nil {
		t.Fatal(err)
	}
	if host, port, err := p.Kubelet(t.Context(), "n"); host != "198.18.0.2" || port != "10250" || err != nil {
		t.Errorf("got %s %s %v", host, port, err)
	}
	if _, _, err := p.Kubelet(t.Context(), "none"); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestLink(t *testing.T) {
	l := links{prefix: "/api/v1/x/proxy", target: "pod.test:80", self: "api.test"}
	for from, want := range map[string]string{
		"/a/b?c=d#e":                    "/api/v1/x/proxy/a/b?c=d#e",
		"/":                             "/api/v1/x/proxy/",
		"http://pod.test:80/a":          "/api/v1/x/proxy/a",
		"https://api.test/a":            "/api/v1/x/proxy/a",
		"/a%2Fb":                        "/api/v1/x/proxy/a%2Fb",
		"/api/v1/x/proxy/a":             "/api/v1/x/proxy/a",
		"/api/v1/x/proxyother":          "/api/v1/x/proxy/api/v1/x/proxyother",
		"a/b":                           "a/b",
		"?q":                            "?q",
		"#top":                          "#top",
		"http://elsewhere.test/a":       "http://elsewhere.test/a",
		"//elsewhere.test/a":            "//elsewhere.test/a",
		"mailto:a@b.test":               "mailto:a@b.test",
		"javascript:void(0)":            "javascript:void(0)",
		"http://pod.test:80":            "http://pod.test:80",
		"http://[broken":                "http://[broken",
		"http://u:p@pod.test:80/secret": "/api/v1/x/proxy/secret",
	} {
		if got := l.link(from); got != want {
			t.Errorf("%s: got %s, want %s", from, got, want)
		}
	}
}

func TestForwardAnswers(t *testing.T) {
	const before = `<!DOCTYPE html><p class=x>a &amp; b</p><a href="/x">x</a><img src='/i.png' alt="/no"><a href="y">y</a><script>var a = "/z" < 1;</script><form action="/f"/>`
	const after = `<!DOCTYPE html><p class=x>a &amp; b</p><a href="/front/proxy/x">x</a><img src="/front/proxy/i.png" alt="/no"><a href="y">y</a><script>var a = "/z" < 1;</script><form action="/front/proxy/f"/>`
	zipped := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, text)
		_ = w.Close()
		return b.String()
	}
	s := front(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/page":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, before)
		case "/zipped":
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, zipped(before))
		case "/text":
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, before)
		case "/moved":
			http.Redirect(w, r, "/page", http.StatusFound)
		}
	}))
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for path, want := range map[string]string{"/page": after, "/zipped": after, "/text": before, "/moved": ""} {
		resp, err := client.Get(s.URL + "/front/proxy" + path)
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = resp.Body
		if resp.Header.Get("Content-Encoding") == "gzip" {
			if body, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		got, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if path == "/moved" {
			if to := resp.Header.Get("Location"); to != "/front/proxy/page" {
				t.Errorf("redirected to %s", to)
			}
		} else if string(got) != want {
			t.Errorf("%s:\n%s\nwant\n%s", path, got, want)
		}
	}
}
