package csrsign

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/pki"
)

type usage = certificatesv1.KeyUsage

func request(t *testing.T, signer string, tmpl *x509.CertificateRequest, usages ...usage) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, _, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer, Usages: usages,
	}}
}

func node(change func(*x509.CertificateRequest)) *x509.CertificateRequest {
	r := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:a", Organization: []string{"system:nodes"}}}
	if change != nil {
		change(r)
	}
	return r
}

// The rules of https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers.
func TestRules(t *testing.T) {
	const (
		client  = certificatesv1.KubeAPIServerClientSignerName
		kubelet = certificatesv1.KubeAPIServerClientKubeletSignerName
		serving = certificatesv1.KubeletServingSignerName
	)
	uri := []*url.URL{{Scheme: "spiffe", Host: "x"}}
	ip := []net.IP{net.IPv4(192, 0, 2, 1).To4()}
	withIP := func(r *x509.CertificateRequest) { r.IPAddresses = ip }
	anybody := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "bob", Organization: []string{"devs"}}, DNSNames: []string{"d"}, EmailAddresses: []string{"e@x"}, URIs: uri, IPAddresses: ip}
	for _, c := range []struct {
		name, signer string
		tmpl         *x509.CertificateRequest
		usages       []usage
		want         string
	}{
		{"client", client, anybody, []usage{"client auth"}, ""},
		{"client with all it may", client, anybody, []usage{"digital signature", "key encipherment", "client auth"}, ""},
		{"client that is none", client, anybody, []usage{"digital signature"}, "missing required usage for client certificate: client auth"},
		{"client that serves", client, anybody, []usage{"client auth", "server auth"}, "invalid usage for client certificate: server auth"},
		{"client that signs", client, anybody, []usage{"client auth", "cert sign"}, "invalid usage for client certificate: cert sign"},

		{"kubelet", kubelet, node(nil), []usage{"digital signature", "client auth"}, ""},
		{"kubelet with RSA", kubelet, node(nil), []usage{"client auth", "key encipherment", "digital signature"}, ""},
		{"kubelet of another group", kubelet, node(func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:masters"} }), []usage{"digital signature", "client auth"}, "subject organization is not system:nodes"},
		{"kubelet of two groups", kubelet, node(func(r *x509.CertificateRequest) {
			r.Subject.Organization = []string{"system:nodes", "system:masters"}
		}), []usage{"digital signature", "client auth"}, "subject organization is not system:nodes"},
		{"kubelet of no name", kubelet, node(func(r *x509.CertificateRequest) { r.Subject.CommonName = "system:node:" }), []usage{"digital signature", "client auth"}, "subject common name does not begin with system:node:"},
		{"kubelet of another name", kubelet, node(func(r *x509.CertificateRequest) { r.Subject.CommonName = "admin" }), []usage{"digital signature", "client auth"}, "subject common name does not begin with system:node:"},
		{"kubelet with DNS", kubelet, node(func(r *x509.CertificateRequest) { r.DNSNames = []string{"a"} }), []usage{"digital signature", "client auth"}, "DNS subjectAltNames are not allowed"},
		{"kubelet with IP", kubelet, node(withIP), []usage{"digital signature", "client auth"}, "IP subjectAltNames are not allowed"},
		{"kubelet with mail", kubelet, node(func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"e@x"} }), []usage{"digital signature", "client auth"}, "email subjectAltNames are not allowed"},
		{"kubelet with URI", kubelet, node(func(r *x509.CertificateRequest) { r.URIs = uri }), []usage{"digital signature", "client auth"}, "URI subjectAltNames are not allowed"},
		{"kubelet that serves too", kubelet, node(nil), []usage{"digital signature", "client auth", "server auth"}, "usages did not match"},
		{"kubelet without signature", kubelet, node(nil), []usage{"key encipherment", "client auth"}, "usages did not match"},

		{"serving", serving, node(withIP), []usage{"digital signature", "server auth"}, ""},
		{"serving nothing", serving, node(nil), []usage{"digital signature", "server auth"}, "DNS or IP subjectAltName is required"},
		{"serving with mail", serving, node(func(r *x509.CertificateRequest) { withIP(r); r.EmailAddresses = []string{"e@x"} }), []usage{"digital signature", "server auth"}, "email subjectAltNames are not allowed"},
		{"serving with URI", serving, node(func(r *x509.CertificateRequest) { withIP(r); r.URIs = uri }), []usage{"digital signature", "server auth"}, "URI subjectAltNames are not allowed"},
		{"serving a client", serving, node(withIP), []usage{"digital signature", "client auth"}, "usages did not match"},
		{"serving as somebody", serving, anybody, []usage{"digital signature", "server auth"}, "subject organization is not system:nodes"},

		{"legacy", LegacyUnknownSigner, anybody, []usage{"cert sign", "any"}, ""},
		{"no usage", LegacyUnknownSigner, anybody, []usage{"no such"}, `unrecognized usage values: ["no such"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(t, c.signer, c.tmpl, c.usages...)
			leaf, _, err := decide(r, time.Hour, time.Now())
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if err == nil && (leaf.Subject.CommonName != c.tmpl.Subject.CommonName || leaf.IsCA || !slices.Equal(leaf.DNSNames, c.tmpl.DNSNames)) {
				t.Errorf("signed %+v", leaf)
			}
		})
	}
	r := request(t, client, anybody, "client auth")
	r.Spec.Request[60] ^= 1
	if _, _, err := decide(r, time.Hour, time.Now()); err == nil {
		t.Error("a spoiled request was signed")
	}
}

func TestTimes(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name  string
		asked *int32
		most  time.Duration
		want  time.Duration // from now to the end
	}{
		{"not asked, short", nil, time.Hour, time.Hour},
		{"not asked, long", nil, 24 * time.Hour, 24*time.Hour - backdate},
		{"less", ptr.To[int32](1200), time.Hour, 20 * time.Minute},
		{"more", ptr.To[int32](7200), time.Hour, time.Hour},
		{"too little", ptr.To[int32](1), time.Hour, leastLife},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(t, LegacyUnknownSigner, node(nil), "any")
			r.Spec.ExpirationSeconds = c.asked
			leaf, _, err := decide(r, c.most, now)
			if err != nil || leaf.NotAfter.Sub(now) != c.want || now.Sub(leaf.NotBefore) != backdate {
				t.Errorf("from %v to %v (%v), want %v", leaf.NotBefore, leaf.NotAfter, err, c.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.EnsureAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(pki.Identity{Name: "leaf"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.Write(dir, "leaf"); err != nil {
		t.Fatal(err)
	}
	files := func(n string) Files { return Files{filepath.Join(dir, n+".crt"), filepath.Join(dir, n+".key")} }
	for _, c := range []struct {
		name, want string
		cfg        Config
		signers    int
	}{
		{"nothing", "", Config{}, 0},
		{"all", "", Config{All: files("ca")}, 4},
		{"one", "", Config{KubeletServing: files("ca")}, 1},
		{"both", "cannot stand beside", Config{All: files("ca"), KubeletServing: files("ca")}, 4},
		{"half", "--cluster-signing-kubelet-client-cert-file and --cluster-signing-kubelet-client-key-file need each other", Config{KubeletClient: Files{Cert: "x"}}, 1},
		{"a leaf", "not a certificate authority", Config{All: files("leaf")}, 4},
		{"no file", "no such file", Config{All: files("none")}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Duration = time.Hour
			err := c.cfg.Check()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n := len(c.cfg.signers()); n != c.signers {
				t.Errorf("%d signers, want %d", n, c.signers)
			}
		})
	}
	if err := (Config{Duration: time.Minute}).Check(); err == nil {
		t.Error("a duration below what may be asked for was taken")
	}
}

// An authority is read again when its files change, and the former signs on while they are not good.
func TestAuthorityReloads(t *testing.T) {
	dir := t.TempDir()
	first, err := pki.EnsureAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{files: Files{filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")}, log: logging.ForTest(t)}
	is := func(want *pki.Authority, when string) {
		t.Helper()
		got, err := a.current()
		if err != nil || string(got.PEM().Cert) != string(want.PEM().Cert) {
			t.Errorf("%s another authority signs: %v", when, err)
		}
	}
	is(first, "at first")
	if err := os.WriteFile(a.files.Cert, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	is(first, "with a broken file")
	second, err := pki.NewAuthority("a second one")
	if err != nil {
		t.Fatal(err)
	}
	if err := second.PEM().Write(dir, "ca"); err != nil {
		t.Fatal(err)
	}
	is(second, "after the change")
	none := &authority{files: Files{"none", "none"}, log: logging.ForTest(t)}
	if _, err := none.current(); err == nil {
		t.Error("nobody signs without an error")
	}
}
