package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func authority(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := EnsureAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *Authority, dir, file string, id Identity) {
	t.Helper()
	p, err := a.Issue(id, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(dir, file); err != nil {
		t.Fatal(err)
	}
}

func TestAuthorityIsKept(t *testing.T) {
	dir := t.TempDir()
	one, two := authority(t, dir), authority(t, dir)
	if string(one.PEM().Cert) != string(two.PEM().Cert) {
		t.Error("an authority that is there was made anew")
	}
	st, err := os.Stat(filepath.Join(dir, "ca.key"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", st.Mode(), err)
	}
	if _, err := Read(dir, "nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestParse(t *testing.T) {
	a := authority(t, t.TempDir())
	leaf, err := a.Issue(Identity{Name: "x", Client: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]Pair{
		"empty": {}, "no PEM": {Cert: []byte("x"), Key: []byte("y")}, "a leaf": leaf, "no key": {Cert: a.PEM().Cert, Key: []byte("y")},
	} {
		if _, err := ParseAuthority(p); err == nil {
			t.Errorf("%s was taken for an authority", name)
		}
	}
	tokens, err := NewKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseKey(tokens.Key); err != nil {
		t.Errorf("our own signing key: %v", err)
	}
}

// server serves TLS from files, telling each caller the name in its certificate.
func server(t *testing.T, files *Files) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if len(r.TLS.VerifiedChains) > 0 {
			name = r.TLS.VerifiedChains[0][0].Subject.CommonName
		}
		w.Header().Set("Caller", name)
	}))
	s.TLS = files.ServerTLS()
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestServingAndRenewal(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	loop := []net.IP{net.IPv4(127, 0, 0, 1)}
	issue(t, a, dir, "server", Identity{Name: "first", Server: true, IPs: loop})
	issue(t, a, dir, "client", Identity{Name: "somebody", Groups: []string{"g"}, Client: true})
	file := func(n string) string { return filepath.Join(dir, n) }
	files, err := NewFiles(file("server.crt"), file("server.key"), file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	addr := server(t, files)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM().Cert)
	client, err := tls.LoadX509KeyPair(file("client.crt"), file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	dial := func(certs ...tls.Certificate) (string, error) {
		d := tls.Dialer{Config: &tls.Config{RootCAs: pool, Certificates: certs}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	get := func(certs ...tls.Certificate) (string, error) {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs}}
		defer tr.CloseIdleConnections()
		r, err := (&http.Client{Transport: tr}).Get("https://" + addr)
		if err != nil {
			return "", err
		}
		r.Body.Close()
		return r.Header.Get("Caller"), nil
	}
	if who, err := get(client); err != nil || who != "somebody" {
		t.Errorf("with a certificate: %s, %v", who, err)
	}
	if who, err := get(); err != nil || who != "nobody" {
		t.Errorf("without: %s, %v", who, err)
	}
	stranger := authority(t, t.TempDir())
	other, err := stranger.Issue(Identity{Name: "admin", Client: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := tls.X509KeyPair(other.Cert, other.Key)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := get(forged); err == nil && who != "nobody" {
		t.Errorf("another authority's certificate was believed: %s", who)
	}

	// Renewed in place: a broken pair is not taken, a good one is, within about a second.
	if err := os.WriteFile(file("server.crt"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	files.looked = time.Time{}
	if name, err := dial(); err != nil || name != "first" {
		t.Errorf("with a broken file: %s, %v", name, err)
	}
	issue(t, a, dir, "server", Identity{Name: "second", Server: true, IPs: loop})
	files.looked = time.Time{}
	if name, err := dial(); err != nil || name != "second" {
		t.Errorf("after renewal: %s, %v", name, err)
	}
	if _, err := NewFiles(file("nothing.crt"), file("server.key"), ""); err == nil {
		t.Error("a missing certificate is no error at start")
	}
}

func TestKubeconfig(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	issue(t, a, dir, "u", Identity{Name: "u", Client: true})
	file := func(n string) string { return filepath.Join(dir, n) }
	b, err := Kubeconfig("c", "https://127.0.0.1:6443", "u", file("ca.crt"), file("u.crt"), file("u.key"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(b)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "https://127.0.0.1:6443" || cfg.CAFile != file("ca.crt") || cfg.CertFile != file("u.crt") || cfg.KeyFile != file("u.key") {
		t.Errorf("got %+v", cfg)
	}
}
