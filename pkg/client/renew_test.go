package client

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/pki"
)

// keeper is a folder of certificates and the authority that makes them.
type keeper struct {
	*testing.T
	dir string
	ca  *pki.Authority
}

func (k keeper) file(name string) string { return filepath.Join(k.dir, name) }

func (k keeper) issue(file, name string) {
	k.Helper()
	p, err := k.ca.Issue(pki.Identity{Name: name, Client: true, Server: true, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}, 0)
	if err == nil {
		err = p.Write(k.dir, file)
	}
	if err != nil {
		k.Fatal(err)
	}
}

// A certificate that is renewed is used by the next request, while a stream over the connection before goes on.
func TestRenewalCutsNothing(t *testing.T) {
	k := keeper{T: t, dir: t.TempDir()}
	var err error
	if k.ca, err = pki.EnsureAuthority(k.dir, "ca"); err != nil {
		t.Fatal(err)
	}
	k.issue("server", "server")
	k.issue("client", "first")
	files, err := pki.NewFiles(k.file("server.crt"), k.file("server.key"), k.file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan string)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := r.TLS.PeerCertificates[0].Subject.CommonName
		fmt.Fprintln(w, who, r.Proto, r.RemoteAddr)
		if r.URL.Path != "/stream" {
			return
		}
		for {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			line, more := <-next
			if !more {
				return
			}
			fmt.Fprintln(w, line)
		}
	}))
	srv.EnableHTTP2 = true
	srv.TLS = files.ServerTLS()
	srv.StartTLS()
	t.Cleanup(srv.Close)

	given := &rest.Config{Host: srv.URL, TLSClientConfig: rest.TLSClientConfig{CAFile: k.file("ca.crt"), CertFile: k.file("client.crt"), KeyFile: k.file("client.key")}}
	cfg, err := renewing(given)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Transport.(*renewed).look = 0
	web, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	get := func() (who, from string) {
		t.Helper()
		resp, err := web.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		f := strings.Fields(string(body))
		if err != nil || len(f) != 3 || f[1] != "HTTP/2.0" {
			t.Fatalf("got %q, %v", body, err)
		}
		return f[0], f[2]
	}
	who, from := get()
	if again, same := get(); who != "first" || again != "first" || from != same {
		t.Fatalf("%s from %s, then %s from %s", who, from, again, same)
	}

	stream, err := web.Get(srv.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	says := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Fatalf("the stream says %q, %v, want %q", lines.Text(), lines.Err(), want)
		}
	}
	says("first")

	if err := os.WriteFile(k.file("client.crt"), []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	if who, _ := get(); who != "first" {
		t.Errorf("with half a pair %q calls", who)
	}
	if n := testutil.ToFloat64(pki.Reloads.WithLabelValues(k.file("client.crt"), "error")); n != 1 {
		t.Errorf("a pair that is not good was counted %v times", n)
	}
	k.issue("client", "second")
	if who, fresh := get(); who != "second" || fresh == from {
		t.Errorf("after the renewal %q calls, from %s as before: %v", who, fresh, fresh == from)
	}
	next <- "still here"
	says("still here")
	close(next)
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("the stream ends with %q, %v", lines.Text(), lines.Err())
	}

	// A second authority beside the first, then a server that only it has signed.
	other, err := pki.EnsureAuthority(t.TempDir(), "other")
	if err != nil {
		t.Fatal(err)
	}
	both := append(append([]byte{}, k.ca.PEM().Cert...), other.PEM().Cert...)
	if err := os.WriteFile(k.file("ca.crt"), both, 0o600); err != nil {
		t.Fatal(err)
	}
	k.ca = other
	k.issue("server2", "server")
	srv2 := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	pair, err := tls.LoadX509KeyPair(k.file("server2.crt"), k.file("server2.key"))
	if err != nil {
		t.Fatal(err)
	}
	srv2.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv2.StartTLS()
	t.Cleanup(srv2.Close)
	resp, err := web.Get(srv2.URL)
	if err != nil {
		t.Fatalf("a server of the new authority: %v", err)
	}
	resp.Body.Close()
	web.CloseIdleConnections()
}

func TestRenewingConfig(t *testing.T) {
	plain := &rest.Config{Host: "http://127.0.0.1", BearerToken: "x"}
	if got, err := renewing(plain); err != nil || got != plain {
		t.Errorf("without files: %v, %v", got, err)
	}
	for name, c := range map[string]rest.TLSClientConfig{
		"no authority":   {CAFile: "none"},
		"no certificate": {CertFile: "none", KeyFile: "none"},
	} {
		if _, err := New(&rest.Config{Host: "https://127.0.0.1", TLSClientConfig: c}); err == nil || !strings.Contains(err.Error(), "none") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
