package streaming

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	//lint:ignore SA1019 client-go still asks for its dialers
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	spdytransport "k8s.io/client-go/transport/spdy"
)

// listen is a port of a pod, whose connections are given to serve.
func listen(t *testing.T, serve func(*net.TCPConn)) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { ln.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	return ln.Addr().(*net.TCPAddr).Port
}

// dialers are the two ways of kubectl port-forward.
func dialers(t *testing.T, u *url.URL) map[string]httpstream.Dialer {
	t.Helper()
	target := u.JoinPath("forward")
	transport, upgrader, err := spdytransport.RoundTripperFor(&rest.Config{Host: u.String()})
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(target, &rest.Config{Host: u.String()})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]httpstream.Dialer{
		"spdy":      spdytransport.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target),
		"websocket": tunnel,
	}
}

// forward has a port of the pod forwarded as kubectl does it, and returns the local one.
func forward(t *testing.T, dialer httpstream.Dialer, port int) int {
	t.Helper()
	stop, up, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	fw, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, stop, up, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- fw.ForwardPorts() }()
	select {
	case <-up:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	ports, err := fw.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return int(ports[0].Local)
}

// TestPortForward: what a client sends arrives, and its end too; then comes the answer. Many connections, one after another and side by side.
func TestPortForward(t *testing.T) {
	_, u := serve(t)
	for name, dialer := range dialers(t, u) {
		t.Run(name, func(t *testing.T) {
			local := forward(t, dialer, listen(t, func(c *net.TCPConn) {
				if b, err := io.ReadAll(c); err == nil { // until the client has sent all
					fmt.Fprintf(c, "got %s", b)
				}
			}))
			talk := func(i int) error {
				c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", local))
				if err != nil {
					return err
				}
				defer c.Close()
				fmt.Fprintf(c, "hello %d", i)
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					return err
				}
				if b, err := io.ReadAll(c); err != nil || string(b) != fmt.Sprintf("got hello %d", i) {
					return fmt.Errorf("answer is %q, %w", b, err)
				}
				return nil
			}
			var all sync.WaitGroup
			for worker := range 4 {
				all.Go(func() {
					for i := range 250 {
						if err := talk(worker*1000 + i); err != nil {
							t.Errorf("connection %d of %d: %v", i, worker, err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// TestPortForwardMuch: 64 MiB go through and come back unharmed.
func TestPortForwardMuch(t *testing.T) {
	_, u := serve(t)
	for name, dialer := range dialers(t, u) {
		t.Run(name, func(t *testing.T) {
			local := forward(t, dialer, listen(t, func(c *net.TCPConn) {
				if _, err := io.Copy(c, c); err == nil {
					c.CloseWrite()
				}
			}))
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", local))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			piece := bytes.Repeat([]byte("0123456789abcde\n"), 4096)
			sent, came := sha256.New(), sha256.New()
			var sending sync.WaitGroup
			sending.Go(func() {
				for i := range 1024 {
					piece[0] = byte(i)
					sent.Write(piece)
					if _, err := c.Write(piece); err != nil {
						t.Errorf("sending: %v", err)
						return
					}
				}
				c.(*net.TCPConn).CloseWrite()
			})
			n, err := io.Copy(came, c)
			sending.Wait()
			if err != nil || n != 64<<20 || !bytes.Equal(sent.Sum(nil), came.Sum(nil)) {
				t.Errorf("%d bytes came back, the same: %v, %v", n, bytes.Equal(sent.Sum(nil), came.Sum(nil)), err)
			}
		})
	}
}

// TestPortForwardRefused: that nobody listens is told, and the next connection is served.
func TestPortForwardRefused(t *testing.T) {
	_, u := serve(t)
	for name, dialer := range dialers(t, u) {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			port := ln.Addr().(*net.TCPAddr).Port
			ln.Close()
			conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			headers := http.Header{"Streamtype": {"error"}, "Port": {fmt.Sprint(port)}, "Requestid": {"0"}}
			errs, err := conn.CreateStream(headers)
			if err != nil {
				t.Fatal(err)
			}
			errs.Close()
			headers.Set("Streamtype", "data")
			// The answer may come, and end this stream, before it is known that it was made.
			if _, err := conn.CreateStream(headers); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(errs); err != nil || !bytes.Contains(b, []byte("connection refused")) {
				t.Errorf("told %q, %v", b, err)
			}
		})
	}
}
