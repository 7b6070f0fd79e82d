package authn

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
)

// authority signs certificates for tests, in whatever shape.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	file string
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), name+".crt")}
	a.cert, a.key = certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	a.write(t, a.file)
	return a
}

func (a *authority) write(t testing.TB, file string) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

var serials = big.NewInt(1)

// certificate signs a certificate by an authority, or by itself.
func certificate(t testing.TB, tmpl *x509.Certificate, by *authority) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serials = new(big.Int).Add(serials, big.NewInt(1))
	tmpl.SerialNumber = serials
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore = time.Now().Add(-time.Hour)
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := tmpl, crypto.Signer(key)
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func (a *authority) client(t testing.TB, name string, change ...func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: []string{"dev", "ops"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, f := range change {
		f(tmpl)
	}
	c, _ := certificate(t, tmpl, a)
	return c
}

// asking is a request by a client with a certificate, as TLS hands it over.
func asking(path string, chain ...*x509.Certificate) *http.Request {
	r := httptest.NewRequest("GET", path, nil)
	if len(chain) > 0 {
		r.TLS = &tls.ConnectionState{PeerCertificates: chain}
	} else {
		r.TLS = &tls.ConnectionState{}
	}
	return r
}

func open(t testing.TB, cfg Config, p Parts) *Authenticator {
	t.Helper()
	if cfg.Audiences == nil {
		cfg.Audiences = []string{"https://issuer"}
	}
	if p.Metrics == nil {
		p.Metrics = prometheus.NewRegistry()
	}
	p.Log = zap.NewNop()
	a, err := Open(cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func uidOf(values ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, v := range values {
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}, Value: v})
		}
	}
}

func TestCertificate(t *testing.T) {
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "ca")
	a := open(t, Config{ClientCAFile: ca.file}, Parts{})
	middle := &authority{}
	middle.cert, middle.key = certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "middle"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, ca)
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		want  string // the user; empty: refused
		uid   string
		why   string // part of the error
	}{
		{name: "good", chain: []*x509.Certificate{ca.client(t, "jane")}, want: "jane"},
		{name: "with a UID", chain: []*x509.Certificate{ca.client(t, "jane", uidOf("42"))}, want: "jane", uid: "42"},
		{name: "with two UIDs", chain: []*x509.Certificate{ca.client(t, "jane", uidOf("42", "43"))}, why: "expected 1 UID"},
		{name: "with an empty UID", chain: []*x509.Certificate{ca.client(t, "jane", uidOf(""))}, why: "cannot be an empty string"},
		{name: "of a stranger's authority of the same name", chain: []*x509.Certificate{stranger.client(t, "admin")}, why: "signed by unknown authority"},
		{name: "expired", chain: []*x509.Certificate{ca.client(t, "jane", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, why: "expired"},
		{name: "not yet valid", chain: []*x509.Certificate{ca.client(t, "jane", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })}, why: "not yet valid"},
		{name: "for servers only", chain: []*x509.Certificate{ca.client(t, "jane", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})}, why: "incompatible key usage"},
		{name: "by an intermediate that is sent", chain: []*x509.Certificate{middle.client(t, "jane"), middle.cert}, want: "jane"},
		{name: "by an intermediate that is not sent", chain: []*x509.Certificate{middle.client(t, "jane")}, why: "unknown authority"},
		{name: "that names nobody", chain: []*x509.Certificate{ca.client(t, "")}, why: "no credential"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// With and without a memory of the connection, and twice, so that what is remembered is used.
			remembered := Remember(t.Context(), nil)
			for _, ctx := range []context.Context{t.Context(), remembered, remembered} {
				u, err := a.User(asking("/api", c.chain...).WithContext(ctx))
				if c.want == "" {
					if err == nil || !strings.Contains(err.Error(), c.why) {
						t.Fatalf("got %+v, %v", u, err)
					}
					continue
				}
				if err != nil || u.Name != c.want || u.UID != c.uid || !slices.Equal(u.Groups, []string{"dev", "ops", "system:authenticated"}) ||
					!strings.HasPrefix(u.Extra[extraCredential][0], "X509SHA256=") {
					t.Fatalf("got %+v, %v", u, err)
				}
			}
		})
	}
	// What TLS did not ask for, or had nothing of, is nobody's.
	if u, err := a.User(asking("/livez")); err != nil || u.Name != Anonymous {
		t.Errorf("without a certificate: %v, %v", u, err)
	}
	// A bad one does not fall through to anonymous where that is allowed.
	if u, err := a.User(asking("/livez", stranger.client(t, "admin"))); err == nil {
		t.Errorf("a stranger is %v", u)
	}
}

// A certificate that holds is believed for its connection until it expires, or the authorities change.
func TestCertificateAgain(t *testing.T) {
	ca, next := newAuthority(t, "one"), newAuthority(t, "two")
	a := open(t, Config{ClientCAFile: ca.file}, Parts{})
	leaf := ca.client(t, "jane")
	on := func(ctx context.Context, now time.Time) error {
		_, err := a.identify(asking("/api", leaf).WithContext(ctx), now)
		return err
	}
	now := time.Now()
	first := Remember(t.Context(), nil)
	if err := on(first, leaf.NotBefore.Add(-time.Second)); err == nil {
		t.Error("believed before its time")
	}
	if err := on(first, leaf.NotBefore.Add(badFor)); err != nil {
		t.Errorf("not believed in its time: %v", err)
	}
	if err := on(first, leaf.NotAfter.Add(time.Second)); err == nil {
		t.Error("still believed after it expired")
	}
	// A file that is not good changes nothing; another authority ends the belief on the same connection.
	second := Remember(t.Context(), nil)
	if err := os.WriteFile(ca.file, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	later := leaf.NotAfter.Add(2 * time.Second) // the files were last looked at then, as the test has it
	a.clients.ca.Current(later.Add(2 * time.Second))
	if err := on(second, now); err != nil {
		t.Errorf("a bad file ends the belief in the former: %v", err)
	}
	if got := testutil.ToFloat64(a.metrics.reloadsWrong.WithLabelValues("client-ca")); got != 1 {
		t.Errorf("%v bad files counted", got)
	}
	next.write(t, ca.file)
	a.clients.ca.Current(later.Add(4 * time.Second))
	if err := on(second, now); err == nil {
		t.Error("believed after its authority is gone")
	}
	if got := testutil.ToFloat64(a.metrics.reloadsGood.WithLabelValues("client-ca")); got != 1 {
		t.Errorf("%v good files counted", got)
	}
	for _, text := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		file := filepath.Join(t.TempDir(), "bad.crt")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{ClientCAFile: file}, Parts{Metrics: prometheus.NewRegistry(), Log: zap.NewNop()}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestUser(t *testing.T) {
	private, _ := ecKey(t)
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	by := tokens(t, TokenConfig{SigningKey: private}, everything())
	good := issue(t, by, claim())
	robot := "system:serviceaccount:ns:robot"
	websocket := func(protocols string) http.Header {
		return http.Header{"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {protocols}}
	}
	encoded := "base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte(good))
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		h     http.Header
		path  string
		want  string // empty: refused
		left  string // of Sec-WebSocket-Protocol
	}{
		{name: "nothing", path: "/api"},
		{name: "nothing, for health", path: "/livez", want: Anonymous},
		{name: "nothing, for a part of health", path: "/livez/etcd"},
		{name: "nothing, for the version", path: "/version", want: Anonymous},
		{name: "nothing, for joining", path: "/api/v1/namespaces/kube-public/configmaps/cluster-info", want: Anonymous},
		{name: "nothing, for something near", path: "/api/v1/namespaces/kube-public/configmaps"},
		{name: "a path trick", path: "/livez/../api"},
		{name: "another path trick", path: "//livez"},
		{name: "a token", h: http.Header{"Authorization": {"Bearer " + good}}, want: robot},
		{name: "a token, lower case", h: http.Header{"Authorization": {"bearer " + good}}, want: robot},
		{name: "nonsense", h: http.Header{"Authorization": {"Bearer nonsense"}}},
		{name: "nonsense, for health", h: http.Header{"Authorization": {"Bearer nonsense"}}, path: "/livez"},
		{name: "no token", h: http.Header{"Authorization": {"Bearer "}}},
		{name: "a password", h: http.Header{"Authorization": {"Basic YTpi"}}},
		{name: "a certificate beside a bad token", chain: []*x509.Certificate{ca.client(t, "jane")}, h: http.Header{"Authorization": {"Bearer x"}}, want: "jane"},
		{name: "a bad certificate beside a token", chain: []*x509.Certificate{stranger.client(t, "admin")}, h: http.Header{"Authorization": {"Bearer " + good}}, want: robot},
		{name: "both bad", chain: []*x509.Certificate{stranger.client(t, "admin")}, h: http.Header{"Authorization": {"Bearer x"}}, path: "/livez"},
		{name: "a WebSocket's protocol", h: websocket("v4.channel.k8s.io, " + encoded), want: robot, left: "v4.channel.k8s.io"},
		{name: "a protocol of no WebSocket", h: http.Header{"Sec-Websocket-Protocol": {"v4.channel.k8s.io, " + encoded}}},
		{name: "a protocol alone", h: websocket(encoded)},
		{name: "two protocols", h: websocket("x," + encoded + "," + encoded)},
		{name: "a broken protocol", h: websocket("x, base64url.bearer.authorization.k8s.io.???")},
		{name: "a protocol beside a certificate", chain: []*x509.Certificate{ca.client(t, "jane")}, h: websocket("x, " + encoded), want: "jane", left: "x"},
		{name: "a proxy's headers without a proxy", h: http.Header{"X-Remote-User": {"admin"}, "X-Remote-Group": {"system:masters"}}},
		{name: "a proxy's headers from a client", chain: []*x509.Certificate{ca.client(t, "jane")}, h: http.Header{
			"X-Remote-User": {"admin"}, "X-Remote-Group": {"system:masters"}, "X-Remote-Extra-A": {"b"}, "X-Remote-Uid": {"1"}}, want: "jane"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.path == "" {
				c.path = "/api"
			}
			reg := prometheus.NewRegistry()
			a := open(t, Config{ClientCAFile: ca.file, CacheTTL: time.Minute}, Parts{Tokens: by, Metrics: reg})
			r := asking("/", c.chain...)
			r.URL.Path = c.path
			if c.h != nil {
				r.Header = c.h.Clone()
			}
			u, err := a.User(r)
			if (err != nil) != (c.want == "") || err == nil && u.Name != c.want {
				t.Fatalf("got %v, %v", u, err)
			}
			if err != nil {
				if strings.Contains(err.Error(), good) || strings.Contains(err.Error(), encoded) {
					t.Error("the error shows the token")
				}
				return
			}
			if slices.Contains(u.Groups, "system:masters") {
				t.Error("in system:masters")
			}
			for name := range r.Header {
				if name == "Authorization" || strings.HasPrefix(name, "X-Remote-") {
					t.Errorf("%s goes on", name)
				}
			}
			if got := r.Header.Get("Sec-WebSocket-Protocol"); got != c.left {
				t.Errorf("the protocols %q go on", got)
			}
		})
	}
}

func TestAnonymous(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		name string
		set  *bool
		path string
		want bool
	}{
		{"by default", nil, "/api", false}, {"by default, health", nil, "/readyz", true},
		{"everywhere", &yes, "/api", true}, {"nowhere", &no, "/readyz", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := open(t, Config{Anonymous: c.set}, Parts{}).User(asking(c.path))
			if (err == nil) != c.want || err == nil && (u.Name != Anonymous || !slices.Equal(u.Groups, []string{Unauthenticated})) {
				t.Errorf("got %v, %v", u, err)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	ca := newAuthority(t, "ca")
	a := open(t, Config{ClientCAFile: ca.file}, Parts{Metrics: reg})
	for _, name := range []string{"admin", "somebody", "a@example.com", "kubelet"} {
		if _, err := a.User(asking("/api", ca.client(t, name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*http.Request{asking("/api"), asking("/api", newAuthority(t, "x").client(t, "y"))} {
		if _, err := a.User(r); err == nil {
			t.Fatal("let in")
		}
	}
	want := `
# HELP authenticated_user_requests Authenticated requests, by user, of whom only a few are told apart.
# TYPE authenticated_user_requests counter
authenticated_user_requests{username="admin"} 1
authenticated_user_requests{username="client"} 0
authenticated_user_requests{username="email_id"} 1
authenticated_user_requests{username="kube_proxy"} 0
authenticated_user_requests{username="kubelet"} 1
authenticated_user_requests{username="other"} 1
authenticated_user_requests{username="system:serviceaccount:kube-system:default"} 0
# HELP authentication_attempts Attempts to authenticate, by result.
# TYPE authentication_attempts counter
authentication_attempts{result="error"} 1
authentication_attempts{result="failure"} 1
authentication_attempts{result="success"} 4
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "authenticated_user_requests", "authentication_attempts"); err != nil {
		t.Error(err)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	ca := newAuthority(b, "ca")
	pair, _ := ecKey(b)
	by := tokens(b, TokenConfig{SigningKey: pair}, everything())
	token := issue(b, by, claim())
	a := open(b, Config{ClientCAFile: ca.file, CacheTTL: time.Hour}, Parts{Tokens: by})
	for _, c := range []struct {
		name string
		r    *http.Request
		auth string
	}{{"certificate", asking("/api", ca.client(b, "jane")), ""}, {"cached token", asking("/api"), "Bearer " + token}} {
		b.Run(c.name, func(b *testing.B) {
			r := c.r.WithContext(Remember(b.Context(), nil))
			r.Header = http.Header{"Accept": {"application/json"}, "User-Agent": {"bench"}}
			auth := []string{c.auth}
			b.ReportAllocs()
			for b.Loop() {
				if c.auth != "" {
					r.Header["Authorization"] = auth
				}
				if _, err := a.User(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Who is known by his connection costs no garbage.
func TestAllocations(t *testing.T) {
	ca := newAuthority(t, "ca")
	a := open(t, Config{ClientCAFile: ca.file}, Parts{})
	r := asking("/api", ca.client(t, "jane")).WithContext(Remember(t.Context(), nil))
	if n := testing.AllocsPerRun(100, func() {
		if _, err := a.User(r); err != nil {
			t.Fatal(err)
		}
	}); n > 2 {
		t.Errorf("%v allocations", n)
	}
}
