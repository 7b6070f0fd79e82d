package nodeproxy

import (
	"context"
	"net"
	"net/http/httptest"
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
