package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/authn"
)

// provider is an issuer of this machine.
type provider struct {
	*httptest.Server
	mu     sync.Mutex
	keys   []signer // guarded by mu; the first signs
	away   bool     // guarded by mu
	asked  int      // guarded by mu; how often for keys
	issuer string   // what its document says; empty: its URL
}

type signer struct {
	id     string
	method jose.SignatureAlgorithm
	key    crypto.Signer
}

func ecSigner(t *testing.T, id string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{id, jose.ES256, key}
}

func rsaSigner(t *testing.T, id string) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return signer{id, jose.RS256, key}
}

func newProvider(t *testing.T, keys ...signer) *provider {
	t.Helper()
	p := &provider{keys: keys}
	mux := http.NewServeMux()
	answer := func(do func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.away {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(do()); err != nil {
				t.Error(err)
			}
		}
	}
	about := answer(func() any {
		issuer := p.issuer
		if issuer == "" {
			issuer = p.URL
		}
		return map[string]any{"issuer": issuer, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL, "token_endpoint": p.URL,
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256"}}
	})
	mux.Handle("/.well-known/openid-configuration", about)
	mux.Handle("/elsewhere", about)
	mux.Handle("/keys", answer(func() any {
		p.asked++
		set := jose.JSONWebKeySet{}
		for _, k := range p.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.key.Public(), KeyID: k.id, Algorithm: string(k.method), Use: "sig"})
		}
		return set
	}))
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// ca is its certificate, which signs itself.
func (p *provider) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

// token signs claims, to which what every token has is added where it is not given.
func (p *provider) token(t *testing.T, by signer, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": p.URL, "aud": "us", "sub": "jane", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for k, v := range claims {
		all[k] = v
		if v == nil {
			delete(all, k)
		}
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: by.method, Key: jose.JSONWebKey{Key: by.key, KeyID: by.id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(all).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	write(t, name, text)
	return name
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func indent(text string) string {
	return "        " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n        ")
}

const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"

// entry is a provider in the file.
func (p *provider) entry(more string) string {
	return fmt.Sprintf("- issuer:\n    url: %s\n    audiences: [us]\n    certificateAuthority: |\n%s\n  claimMappings:\n    username: {claim: sub, prefix: \"oidc:\"}\n%s",
		p.URL, indent(p.ca()), more)
}

// run starts issuers and waits until those of the providers are ready.
func run(t *testing.T, cfg Config, reg prometheus.Registerer, of ...*provider) *Issuers {
	t.Helper()
	s, err := New(cfg, reg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	for _, p := range of {
		until(t, "issuer "+p.URL+" is ready", func() bool {
			i := s.now.Load().byURL[p.URL]
			return i != nil && i.ready.Load() != nil
		})
	}
	return s
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to pass that " + what)
		}
	}
}

func (p *provider) flags(t *testing.T, f Flags) Flags {
	t.Helper()
	f.IssuerURL, f.ClientID, f.CAFile = p.URL, "us", file(t, p.ca())
	return f
}

func TestFlags(t *testing.T) {
	good, other := rsaSigner(t, "one"), rsaSigner(t, "one")
	p := newProvider(t, good)
	s := run(t, Config{Flags: p.flags(t, Flags{GroupsClaim: "roles", GroupsPrefix: "g:", Required: []string{"tenant=a"}, UsernamePrefix: "u:"})}, prometheus.NewRegistry(), p)
	tenant := func(more map[string]any) map[string]any {
		if more == nil {
			more = map[string]any{}
		}
		if _, ok := more["tenant"]; !ok {
			more["tenant"] = "a"
		}
		return more
	}
	hs, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: x509.MarshalPKCS1PublicKey(good.key.Public().(*rsa.PublicKey))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := jwt.Signed(hs).Claims(map[string]any{"iss": p.URL, "aud": "us", "sub": "admin", "tenant": "a", "exp": time.Now().Add(time.Hour).Unix()}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	unsigned := strings.Split(p.token(t, good, tenant(nil)), ".")
	for _, c := range []struct {
		name, token string
		user        string // empty: refused
		groups      []string
		why         string
	}{
		{"good", p.token(t, good, tenant(map[string]any{"roles": []string{"a", "b"}})), "u:jane", []string{"g:a", "g:b"}, ""},
		{"one group", p.token(t, good, tenant(map[string]any{"roles": "a"})), "u:jane", []string{"g:a"}, ""},
		{"groups of a strange form", p.token(t, good, tenant(map[string]any{"roles": map[string]any{"a": 1}})), "", nil, "parse groups claim"},
		{"a user of a strange form", p.token(t, good, tenant(map[string]any{"sub": 7})), "", nil, "verify token"},
		{"no user", p.token(t, good, tenant(map[string]any{"sub": ""})), "", nil, "is empty"},
		{"without what is required", p.token(t, good, nil), "", nil, "required claim tenant not present"},
		{"with another value", p.token(t, good, tenant(map[string]any{"tenant": "b"})), "", nil, "value does not match"},
		{"expired", p.token(t, good, tenant(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})), "", nil, "expired"},
		{"without an end", p.token(t, good, tenant(map[string]any{"exp": nil})), "", nil, "expired"},
		{"for another client", p.token(t, good, tenant(map[string]any{"aud": "them"})), "", nil, "expected audience"},
		{"for several clients", p.token(t, good, tenant(map[string]any{"aud": []string{"them", "us"}})), "u:jane", nil, ""},
		{"by another key of the same id", p.token(t, other, tenant(nil)), "", nil, "failed to verify"},
		{"by a key's public half", swapped, "", nil, "unexpected signature algorithm"},
		{"unsigned", "eyJhbGciOiJub25lIn0." + unsigned[1] + ".", "", nil, "unexpected signature algorithm"},
		{"of another issuer", p.token(t, good, tenant(map[string]any{"iss": "https://elsewhere"})), "", nil, "invalid bearer token"},
		{"no token", "x", "", nil, "invalid bearer token"},
		{"nonsense between dots", "a.b.c", "", nil, "invalid bearer token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, err := s.Check(t.Context(), c.token, nil)
			if c.user == "" {
				if err == nil || !strings.Contains(err.Error(), c.why) || len(c.token) > 20 && strings.Contains(err.Error(), c.token) {
					t.Errorf("got %v, %v", found, err)
				}
				return
			}
			if err != nil || found.User.Name != c.user || !slices.Equal(found.User.Groups, c.groups) || found.Until.IsZero() {
				t.Errorf("got %v, %v", found, err)
			}
		})
	}
}

func TestUserNames(t *testing.T) {
	key := rsaSigner(t, "k")
	p := newProvider(t, key)
	for _, c := range []struct {
		name   string
		flags  Flags
		claims map[string]any
		want   string // {} is the issuer
	}{
		{"by default", Flags{}, nil, "{}#jane"},
		{"without a prefix", Flags{UsernamePrefix: "-"}, nil, "jane"},
		{"by mail", Flags{UsernameClaim: "email"}, map[string]any{"email": "a@b", "email_verified": true}, "a@b"},
		{"by mail, nothing said of it", Flags{UsernameClaim: "email"}, map[string]any{"email": "a@b"}, "a@b"},
		{"by mail that is not verified", Flags{UsernameClaim: "email"}, map[string]any{"email": "a@b", "email_verified": false}, ""},
		{"by mail of doubtful verification", Flags{UsernameClaim: "email"}, map[string]any{"email": "a@b", "email_verified": "no"}, ""},
		{"by a claim that is not there", Flags{UsernameClaim: "name"}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := run(t, Config{Flags: p.flags(t, c.flags)}, prometheus.NewRegistry(), p)
			found, err := s.Check(t.Context(), p.token(t, key, c.claims), nil)
			if want := strings.ReplaceAll(c.want, "{}", p.URL); (err == nil) != (want != "") || err == nil && found.User.Name != want {
				t.Errorf("got %v, %v", found, err)
			}
		})
	}
}

// A new key is found by the token that names it; tokens that name none that exists do not make the issuer suffer.
func TestKeyRotation(t *testing.T) {
	first, second := ecSigner(t, "first"), rsaSigner(t, "second")
	p := newProvider(t, first)
	s := run(t, Config{File: file(t, head+"jwt:\n"+p.entry(""))}, prometheus.NewRegistry(), p)
	check := func(by signer) error { _, err := s.Check(t.Context(), p.token(t, by, nil), nil); return err }
	if err := check(first); err != nil {
		t.Fatal(err)
	}
	if err := check(second); err == nil {
		t.Error("a key that the issuer does not have is believed")
	}
	p.set(func() { p.keys = []signer{second} })
	// A fetch that was under way a moment ago may still answer with what there was.
	until(t, "the new key is believed", func() bool { return check(second) == nil })
	until(t, "the old key is not, which the issuer does not have any more", func() bool { return check(first) != nil })
	for n := range 50 {
		if err := check(ecSigner(t, fmt.Sprint(n))); err == nil {
			t.Error("a made-up key is believed")
		}
	}
	p.set(func() {
		if p.asked > keyBurst {
			t.Errorf("asked for keys %d times", p.asked)
		}
	})
	if err := check(second); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}

// An issuer that is away holds up neither the start nor the tokens of others, and is found when it comes.
func TestAway(t *testing.T) {
	a, b := ecSigner(t, "k"), ecSigner(t, "k")
	here, away := newProvider(t, a), newProvider(t, b)
	away.set(func() { away.away = true })
	s := run(t, Config{File: file(t, head+"jwt:\n"+here.entry("")+away.entry(""))}, prometheus.NewRegistry(), here)
	if found, err := s.Check(t.Context(), here.token(t, a, nil), nil); err != nil || found.User.Name != "oidc:jane" {
		t.Errorf("the one that is here: %v, %v", found, err)
	}
	if _, err := s.Check(t.Context(), here.token(t, a, map[string]any{"iss": away.URL}), nil); err == nil || !strings.Contains(err.Error(), "not initialized") {
		t.Errorf("the one that is away: %v", err)
	}
	away.set(func() { away.away = false })
	until(t, "it is found when it comes", func() bool {
		_, err := s.Check(t.Context(), away.token(t, b, nil), nil)
		return err == nil
	})
	if _, err := s.Check(t.Context(), here.token(t, a, map[string]any{"iss": away.URL}), nil); err == nil {
		t.Error("one issuer's key signs for another")
	}
}

// The discovery document may be elsewhere, but must be the issuer's.
func TestDiscoveryURL(t *testing.T) {
	key := ecSigner(t, "k")
	for _, says := range []string{"https://issuer.example.com", "https://another.example.com"} {
		t.Run(says, func(t *testing.T) {
			p := newProvider(t, key)
			p.issuer = says
			entry := strings.Replace(p.entry(""), "url: "+p.URL, "url: https://issuer.example.com\n    discoveryURL: "+p.URL+"/elsewhere", 1)
			s := run(t, Config{File: file(t, head+"jwt:\n"+entry)}, prometheus.NewRegistry())
			i := s.now.Load().byURL["https://issuer.example.com"]
			until(t, "it was tried", func() bool { return i.ready.Load() != nil || i.trouble.Load() != nil })
			_, err := s.Check(t.Context(), p.token(t, key, map[string]any{"iss": "https://issuer.example.com"}), nil)
			if good := says == "https://issuer.example.com"; (err == nil) != good {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The file is followed: what is not good changes nothing, an issuer that goes ends its tokens, and one that stays is not asked anew.
func TestReload(t *testing.T) {
	a, b := ecSigner(t, "k"), ecSigner(t, "k")
	one, two := newProvider(t, a), newProvider(t, b)
	name := file(t, head+"jwt:\n"+one.entry("")+"anonymous: {enabled: true, conditions: [{path: /x}]}\n")
	reg := prometheus.NewRegistry()
	s := run(t, Config{File: name}, reg, one)
	if n := s.Nobody(); n == nil || !n.Allowed || !n.Paths["/x"] {
		t.Errorf("anonymous: %+v", n)
	}
	found, err := s.Check(t.Context(), one.token(t, a, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	count := func(status string) float64 {
		return testutil.ToFloat64(s.metrics.reloads.WithLabelValues(status, s.metrics.server))
	}
	stays := s.now.Load().byURL[one.URL]

	write(t, name, head+"jwt:\n- issuer: {url: http://x}\n")
	until(t, "the bad file is seen", func() bool { return count("failure") == 1 })
	if s.now.Load().byURL[one.URL] != stays || found.Still(t.Context()) != nil {
		t.Error("a bad file changed something")
	}
	write(t, name, head+"jwt:\n"+two.entry("")+one.entry(""))
	until(t, "the good file is seen", func() bool { return count("success") == 1 })
	if s.now.Load().byURL[one.URL] != stays || s.Nobody() != nil {
		t.Error("an issuer that stays was made anew, or anonymous stays")
	}
	until(t, "the new issuer is known", func() bool { _, err := s.Check(t.Context(), two.token(t, b, nil), nil); return err == nil })
	write(t, name, head+"jwt:\n"+two.entry(""))
	until(t, "the next file is seen", func() bool { return count("success") == 2 })
	if err := found.Still(t.Context()); err == nil {
		t.Error("what a token proved of an issuer that is gone is still believed")
	}
	if _, err := s.Check(t.Context(), one.token(t, a, nil), nil); !errors.Is(err, authn.ErrNotMine) {
		t.Errorf("a token of an issuer that is gone: %v", err)
	}
	if n := testutil.CollectAndCount(s.metrics.info); n != 1 {
		t.Errorf("%d hashes of configurations", n)
	}
}

func TestConfig(t *testing.T) {
	p := newProvider(t, ecSigner(t, "k"))
	entry := p.entry("")
	with := func(old, new string) string { return head + "jwt:\n" + strings.Replace(entry, old, new, 1) }
	username := `username: {claim: sub, prefix: "oidc:"}`
	for _, c := range []struct{ name, text, want string }{
		{"good", head + "jwt:\n" + entry, ""},
		{"with nothing", head, ""},
		{"beta", strings.Replace(head, "/v1", "/v1beta1", 1), ""},
		{"no YAML", "a: [", "yaml: line 1"},
		{"of another kind", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n", `want "AuthenticationConfiguration"`},
		{"of another version", "apiVersion: apiserver.config.k8s.io/v9\nkind: AuthenticationConfiguration\n", "apiserver.config.k8s.io/v9"},
		{"an unknown field", head + "jwts: []\n", `unknown field "jwts"`},
		{"a field twice", head + "jwt: []\njwt: []\n", "already set"},
		{"no TLS", with("https://", "http://"), "jwt[0].issuer.url: Invalid value"},
		{"no issuer", with("url: "+p.URL, "url: ''"), "jwt[0].issuer.url: Required value"},
		{"twice", head + "jwt:\n" + entry + entry, "jwt[1].issuer.url: Duplicate value"},
		{"no audience", with("[us]", "[]"), "jwt[0].issuer.audiences: Required value"},
		{"an audience twice", with("[us]", "[us, us]\n    audienceMatchPolicy: MatchAny"), "jwt[0].issuer.audiences[1]: Duplicate value"},
		{"two audiences without a policy", with("[us]", "[us, them]"), "audienceMatchPolicy must be MatchAny for multiple audiences"},
		{"two audiences", with("[us]", "[us, them]\n    audienceMatchPolicy: MatchAny"), ""},
		{"a bad authority", with("BEGIN CERT", "BEGIN NOTHING"), "jwt[0].issuer.certificateAuthority: Invalid value"},
		{"our own issuer", with(p.URL, "https://ourselves"), "must not overlap with disallowed issuers"},
		{"discovery at the issuer", with("url: "+p.URL, "url: "+p.URL+"\n    discoveryURL: "+p.URL+"/"), "discoveryURL must be different from URL"},
		{"no user", with(username, "username: {}"), "jwt[0].claimMappings.username: Required value"},
		{"no prefix", with(username, "username: {claim: sub}"), "jwt[0].claimMappings.username.prefix: Required value"},
		{"CEL for the user", with(username, "username: {expression: claims.sub}"), "jwt[0].claimMappings.username.expression: Forbidden: expressions are not supported"},
		{"CEL for groups", with(username, username+"\n    groups: {expression: claims.x}"), "jwt[0].claimMappings.groups.expression: Forbidden"},
		{"CEL for the UID", with(username, username+"\n    uid: {expression: claims.x}"), "jwt[0].claimMappings.uid.expression: Forbidden"},
		{"CEL for more", with(username, username+"\n    extra: [{key: a/b, valueExpression: claims.x}]"), "jwt[0].claimMappings.extra[0].valueExpression: Forbidden"},
		{"CEL for a claim", head + "jwt:\n" + p.entry("  claimValidationRules: [{expression: claims.x}]\n"), "jwt[0].claimValidationRules[0].expression: Forbidden"},
		{"CEL for the user's rules", head + "jwt:\n" + p.entry("  userValidationRules: [{expression: user.x}]\n"), "jwt[0].userValidationRules[0].expression: Forbidden"},
		{"a claim twice", head + "jwt:\n" + p.entry("  claimValidationRules: [{claim: a}, {claim: a}]\n"), "jwt[0].claimValidationRules[1].claim: Duplicate value"},
		{"conditions of nothing", head + "anonymous: {enabled: false, conditions: [{path: /x}]}\n", "enabled should be set to true"},
		{"an egress", with("audiences:", "egressSelectorType: cluster\n    audiences:"), "egressSelectorType: Forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := file(t, c.text)
			_, err := New(Config{File: name, Disallowed: []string{"https://ourselves"}}, prometheus.NewRegistry(), zap.NewNop())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), name)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	anonymous := file(t, head+"anonymous: {enabled: true}\n")
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"nothing", Config{}, ""},
		{"no file", Config{File: "/nonexistent"}, "--authentication-config"},
		{"both", Config{File: anonymous, Flags: Flags{ClientID: "x"}}, "mutually exclusive"},
		{"anonymous twice", Config{File: anonymous, AnonymousSet: true}, "--anonymous-auth flag cannot be set"},
		{"half", Config{Flags: Flags{ClientID: "x"}}, "must be specified together"},
		{"no TLS", Config{Flags: Flags{ClientID: "x", IssuerURL: "http://x"}}, "URL scheme must be https"},
		{"a strange method", Config{Flags: Flags{ClientID: "x", IssuerURL: "https://x", Methods: []string{"HS256"}}}, `unsupported signing alg: "HS256"`},
		{"no authority", Config{Flags: Flags{ClientID: "x", IssuerURL: "https://x", CAFile: "/nonexistent"}}, "--oidc-ca-file"},
		{"a strange claim", Config{Flags: Flags{ClientID: "x", IssuerURL: "https://x", Required: []string{"y"}}}, "want key=value"},
	} {
		t.Run("flags: "+c.name, func(t *testing.T) {
			_, err := New(c.cfg, prometheus.NewRegistry(), zap.NewNop())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
