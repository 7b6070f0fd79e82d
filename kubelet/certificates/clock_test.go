package certificates

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/pki"
)

// wire is a network of one address, in memory.
type wire struct {
	calls chan net.Conn
	ended chan struct{}
	end   sync.Once
}

func newWire() *wire { return &wire{calls: make(chan net.Conn), ended: make(chan struct{})} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.calls:
		return c, nil
	case <-w.ended:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error {
	w.end.Do(func() { close(w.ended) })
	return nil
}

func (w *wire) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case w.calls <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve serves on a wire until the test ends.
func serve(w *wire, files *pki.Files, h http.Handler) (stop func()) {
	srv := &http.Server{Handler: h, TLSConfig: files.ServerTLS()}
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(w, "", "") }()
	return func() {
		srv.Close()
		<-done
	}
}

// door is an API server of requests alone. It lets in whose certificate holds at the time of the request.
type door struct{ *office }

func (d door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	who := r.TLS.PeerCertificates
	if len(who) == 0 || time.Now().After(who[0].NotAfter) {
		http.Error(w, "no certificate that holds", http.StatusUnauthorized)
		return
	}
	answer := func(o runtime.Object, err error) {
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			status := err.(apierrors.APIStatus).Status()
			w.WriteHeader(int(status.Code))
			o = &status
		}
		if err := scheme.Codecs.LegacyCodec(certificatesv1.SchemeGroupVersion, metav1.SchemeGroupVersion).Encode(o, w); err != nil {
			d.t.Error(err)
		}
	}
	switch {
	case r.URL.Path == "/watch":
		for r.Context().Err() == nil {
			fmt.Fprintln(w, "still here")
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-time.After(time.Minute):
			case <-r.Context().Done():
			}
		}
	case r.Method == http.MethodPost && r.URL.Path == path:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			d.t.Error(err)
		}
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			d.t.Error(err)
		}
		answer(d.Create(r.Context(), o.(*certificatesv1.CertificateSigningRequest), metav1.CreateOptions{}))
	case strings.HasPrefix(r.URL.Path, path+"/"):
		answer(d.Get(r.Context(), strings.TrimPrefix(r.URL.Path, path+"/"), metav1.GetOptions{}))
	default:
		fmt.Fprintln(w, "ok")
	}
}

// TestClockPastEveryEnd moves the clock half a day ahead over certificates of an hour: the kubelet's two, renewed over the very
// connections that they make possible, and the API server's, renewed on disk one file after the other. Every call in between
// succeeds, and a watch from before the first renewal is never cut.
func TestClockPastEveryEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ca, err := pki.EnsureAuthority(dir, "ca")
		if err != nil {
			t.Fatal(err)
		}
		loopback := []net.IP{net.IPv4(127, 0, 0, 1).To4()}
		issue := func() pki.Pair {
			p, err := ca.Issue(pki.Identity{Name: "kubernetes", Server: true, IPs: loopback}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if err := issue().Write(dir, "apiserver"); err != nil {
			t.Fatal(err)
		}
		caFile := filepath.Join(dir, "ca.crt")
		front, err := pki.NewFiles(filepath.Join(dir, "apiserver.crt"), filepath.Join(dir, "apiserver.key"), caFile)
		if err != nil {
			t.Fatal(err)
		}
		o := &office{t: t, ca: ca, life: time.Hour}
		api := newWire()
		defer serve(api, front, door{o})()

		// The kubelet: it has joined, as by a token.
		cfg := node(t)
		first, err := ca.Issue(pki.Identity{Name: "system:node:a", Groups: []string{"system:nodes"}, Client: true}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := save(cfg.clientFile(), append(append(first.Cert, '\n'), first.Key...)); err != nil {
			t.Fatal(err)
		}
		clients, err := client.New(&rest.Config{Host: "https://127.0.0.1", Dial: api.dial, Timeout: 0, TLSClientConfig: rest.TLSClientConfig{
			CAFile: caFile, CertFile: cfg.clientFile(), KeyFile: cfg.clientFile(),
		}})
		if err != nil {
			t.Fatal(err)
		}
		requests := clients.Kube.CertificatesV1().CertificateSigningRequests()
		stop := run(t, Client(cfg, requests, logging.ForTest(t)), Serving(cfg, requests, logging.ForTest(t)))
		defer func() { stop() }()
		back, err := pki.AwaitFiles(cfg.ServingFile(), cfg.ServingFile(), caFile)
		if err != nil {
			t.Fatal(err)
		}
		kubelet := newWire()
		defer serve(kubelet, back, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))()

		raw := clients.Kube.Discovery().RESTClient()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		watch, err := raw.Get().AbsPath("/watch").Stream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var lines atomic.Int64
		cut := make(chan error, 1)
		go func() {
			s := bufio.NewScanner(watch)
			for s.Scan() {
				lines.Add(1)
			}
			cut <- s.Err()
		}()
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca.PEM().Cert)

		const hours = 12
		shown := map[string]bool{}
		for minute := range hours * 60 {
			time.Sleep(time.Minute)
			if minute%40 == 39 { // the API server's certificate, its halves a while apart
				p := issue()
				if err := pki.WriteFile(filepath.Join(dir, "apiserver.crt"), p.Cert, 0o600); err != nil {
					t.Fatal(err)
				}
				if minute%80 == 39 {
					if _, err := dialOnce(api, roots, "127.0.0.1"); err != nil {
						t.Fatalf("minute %d, with half a pair: %v", minute, err)
					}
				}
				if err := pki.WriteFile(filepath.Join(dir, "apiserver.key"), p.Key, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if minute%3 != 0 {
				continue
			}
			if body, err := raw.Get().AbsPath("/healthz").DoRaw(ctx); err != nil || string(body) != "ok\n" {
				t.Fatalf("minute %d: the kubelet asks the API server: %q, %v", minute, body, err)
			}
			for of, w := range map[string]*wire{"API server": api, "kubelet": kubelet} {
				c, err := dialOnce(w, roots, map[string]string{"API server": "127.0.0.1", "kubelet": "a"}[of])
				if err != nil {
					t.Fatalf("minute %d: calling the %s: %v", minute, of, err)
				}
				shown[of+c.SerialNumber.String()] = true
			}
		}
		select {
		case err := <-cut:
			t.Errorf("the watch was cut: %v", err)
		default:
		}
		cancel()
		<-cut
		watch.Close()
		if n := lines.Load(); n < hours*60-1 {
			t.Errorf("the watch brought %d lines in %d minutes", n, hours*60)
		}
		if len(shown) < 2*hours || o.answered < 2*hours {
			t.Errorf("%d certificates were shown, %d requests answered in %d hours", len(shown), o.answered, hours)
		}
		stop()
		stop = func() {}
	})
}

// dialOnce calls a server anew and returns what it shows, verified at the time it is.
func dialOnce(w *wire, roots *x509.CertPool, name string) (*x509.Certificate, error) {
	conn, err := w.dial(context.Background(), "", "")
	if err != nil {
		return nil, err
	}
	c := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: name, Time: time.Now})
	defer c.Close()
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}
