package nodeproxy

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// liar is a node whose kubelet says that it lives on the API server's own host.
type liar struct{ port int32 }

func (l liar) Node(context.Context, string) (*corev1.Node, error) {
	n := &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}}}
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = l.port
	return n, nil
}

// TestNothingIsDialled: a listener on this very host hears nothing, whoever says that he lives there.
func TestNothingIsDialled(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			c.Close()
		}
	}()
	port := int32(ln.Addr().(*net.TCPAddr).Port)
	p, err := New(Config{}, liar{port})
	if err != nil {
		t.Fatal(err)
	}
	get := httptest.NewRequest("GET", "/", nil)
	if err := p.Serve(httptest.NewRecorder(), get, "n", "/containerLogs", nil); !apierrors.IsBadRequest(err) {
		t.Errorf("a kubelet on this host: %v", err)
	}
	for _, kubelet := range []bool{true, false} {
		for _, host := range []string{ln.Addr().String(), net.JoinHostPort("localhost", ln.Addr().String()[len("127.0.0.1:"):])} {
			if err := p.Forward(httptest.NewRecorder(), get, Target{Scheme: "http", Host: host, Path: "/", Kubelet: kubelet}); !apierrors.IsBadRequest(err) {
				t.Errorf("%s, a kubelet: %v: %v", host, kubelet, err)
			}
		}
	}
	ln.Close()
	<-done
	if n := dialled.Load(); n != 0 {
		t.Errorf("dialled %d times", n)
	}
}

// TestNoRedirect: a node that was broken into does not send a client elsewhere with what he has to say.
func TestNoRedirect(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.RedirectHandler("/api/v1/namespaces/kube-system/pods/p/exec?command=sh", http.StatusFound))
	t.Cleanup(elsewhere.Close)
	p, err := New(Config{}, liar{10250})
	if err != nil {
		t.Fatal(err)
	}
	for _, transport := range []*http.Transport{p.transport, p.anybody} {
		transport.TLSClientConfig.InsecureSkipVerify = true // who serves is not what is tested
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, elsewhere.Listener.Addr().String())
		}
		t.Cleanup(transport.CloseIdleConnections)
	}
	refused := func(what string, w *httptest.ResponseRecorder, err error) {
		t.Helper()
		if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "attempted to redirect") || w.Header().Get("Location") != "" {
			t.Errorf("%s: %v, sent to %q", what, err, w.Header().Get("Location"))
		}
	}
	ask := func(upgrade bool) (*httptest.ResponseRecorder, *http.Request) {
		r := httptest.NewRequest("POST", "/", nil)
		if upgrade {
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
		}
		return httptest.NewRecorder(), r
	}
	for _, upgrade := range []bool{true, false} {
		w, r := ask(upgrade)
		refused("a kubelet", w, p.Serve(w, r, "n", "/exec/n/p/c", nil))
	}
	for _, kubelet := range []bool{true, false} {
		w, r := ask(true)
		refused("a proxy", w, p.Forward(w, r, Target{Scheme: "https", Host: "10.0.0.1:10250", Path: "/", Prefix: "/p", Kubelet: kubelet}))
	}
	w, r := ask(false) // a page may lead to another of its own
	if err := p.Forward(w, r, Target{Scheme: "https", Host: "10.0.0.1:10250", Path: "/", Prefix: "/p"}); err != nil || !strings.HasPrefix(w.Header().Get("Location"), "/p/api/v1") {
		t.Errorf("a page: %v, sent to %q", err, w.Header().Get("Location"))
	}
}
