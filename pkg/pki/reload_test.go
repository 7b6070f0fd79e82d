package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// shown is the name in the certificate that a server of these files shows now.
func shown(t *testing.T, f *Files) string {
	t.Helper()
	f.mu.Lock()
	f.looked = time.Time{} // as if a second had passed
	f.mu.Unlock()
	cfg, err := f.ServerTLS().GetConfigForClient(nil)
	if err != nil {
		return err.Error()
	}
	cert, err := x509.ParseCertificate(cfg.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert.Subject.CommonName
}

// A pair is renewed by writing one file after the other: what stands between is not believed, and is said once.
func TestHalfWrittenPair(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	issue(t, a, dir, "server", Identity{Name: "first", Server: true})
	file := func(n string) string { return filepath.Join(dir, n) }
	f, err := NewFiles(file("server.crt"), file("server.key"), file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	var heard []error
	f.OnReload(func(err error) { heard = append(heard, err) })
	next, err := a.Issue(Identity{Name: "the second", Server: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	count := func(result string) float64 {
		return testutil.ToFloat64(Reloads.WithLabelValues(file("server.crt"), result))
	}
	if err := os.WriteFile(file("server.crt"), next.Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if who := shown(t, f); who != "first" {
			t.Errorf("with half a pair %q is shown", who)
		}
	}
	if len(heard) != 1 || heard[0] == nil || count("error") != 1 || count("ok") != 0 {
		t.Errorf("of half a pair was told %v and counted %v", heard, count("error"))
	}
	if err := os.WriteFile(file("server.key"), append(next.Key, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if who := shown(t, f); who != "the second" {
		t.Errorf("of the whole pair %q is shown", who)
	}
	if len(heard) != 2 || heard[1] != nil || count("ok") != 1 {
		t.Errorf("of the whole pair was told %v", heard)
	}
	// Authorities of clients are read again too, and none at all is not believed.
	if err := os.WriteFile(file("ca.crt"), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown(t, f)
	if len(heard) != 3 || heard[2] == nil || f.clients == nil {
		t.Errorf("of a broken authority was told %v", heard)
	}
	other := authority(t, t.TempDir())
	if err := os.WriteFile(file("ca.crt"), append(a.PEM().Cert, other.PEM().Cert...), 0o600); err != nil {
		t.Fatal(err)
	}
	shown(t, f)
	both := x509.NewCertPool()
	both.AppendCertsFromPEM(a.PEM().Cert)
	both.AppendCertsFromPEM(other.PEM().Cert)
	if !f.clients.Equal(both) {
		t.Error("a second authority is not in force")
	}
}

func TestAwaitedCertificate(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	file := filepath.Join(dir, "current.pem")
	if _, err := AwaitFiles(file, file, filepath.Join(dir, "none.crt")); err == nil {
		t.Error("an authority that is not there was taken")
	}
	f, err := AwaitFiles(file, file, filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ServerTLS().GetConfigForClient(&tls.ClientHelloInfo{}); err == nil {
		t.Error("a handshake without a certificate")
	}
	p, err := a.Issue(Identity{Name: "late", Server: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(p.Cert, p.Key...), 0o600); err != nil {
		t.Fatal(err)
	}
	if who := shown(t, f); who != "late" {
		t.Errorf("%q is shown", who)
	}
}

func TestRequests(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, dir)
	key, text, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseKey(text); err != nil || !key.Public().(*ecdsa.PublicKey).Equal(back.Public()) {
		t.Errorf("reading a key back: %v", err)
	}
	req, err := NewRequest(Identity{Name: "n", Groups: []string{"g"}, DNS: []string{"d"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ParseRequest(req)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	leaf := &x509.Certificate{Subject: csr.Subject, DNSNames: csr.DNSNames, NotBefore: now, NotAfter: now.Add(2 * AuthorityLife), IsCA: true}
	text, err = a.Sign(leaf, csr.PublicKey, now)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if c.IsCA || !c.NotAfter.Equal(a.cert.NotAfter) || c.Subject.CommonName != "n" || c.CheckSignatureFrom(a.cert) != nil {
		t.Errorf("signed %+v", c)
	}
	if _, err := a.Sign(leaf, csr.PublicKey, now.Add(2*AuthorityLife)); err == nil {
		t.Error("an authority that has ended signs")
	}
	req[40] ^= 1
	if _, err := ParseRequest(req); err == nil {
		t.Error("a spoiled request was read")
	}
	if _, err := ParseRequest(text); err == nil {
		t.Error("a certificate was read as a request")
	}
}
