package authn

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pki"
)

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name + "-uid")}
}

func everything() *cluster {
	c := &cluster{}
	c.put("serviceaccounts/robot", meta("robot"))
	c.put("pods/p", meta("p"))
	c.put("secrets/s", meta("s"))
	c.put("nodes/n", meta("n"))
	return c
}

// ecKey writes a P-256 pair and returns the files of its private and public half.
func ecKey(t testing.TB) (private, public string) {
	t.Helper()
	pair, err := pki.NewKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := pair.Write(dir, "sa"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "sa.key"), filepath.Join(dir, "sa.crt")
}

func rsaKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rsa.key")
	b := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func tokens(t testing.TB, cfg TokenConfig, objects Objects) *Tokens {
	t.Helper()
	if cfg.Issuers == nil {
		cfg.Issuers = []string{"https://issuer"}
	}
	out, err := NewTokens(cfg, objects, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func claim() Claim {
	return Claim{Account: &corev1.ServiceAccount{ObjectMeta: meta("robot")}, Audiences: []string{"https://issuer"}, Lifetime: time.Hour}
}

func issue(t testing.TB, by *Tokens, c Claim) string {
	t.Helper()
	token, _, err := by.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestCheck(t *testing.T) {
	private, _ := ecKey(t)
	pod, secret, node := &corev1.Pod{ObjectMeta: meta("p")}, &corev1.Secret{ObjectMeta: meta("s")}, &corev1.Node{ObjectMeta: meta("n")}
	old := metav1.NewTime(time.Now().Add(-2 * time.Minute))
	for _, c := range []struct {
		name      string
		claim     func(*Claim)
		now       func(*cluster)
		later     time.Duration
		audiences []string
		want      string // part of the error
	}{
		{name: "plain"},
		{name: "bound to a pod on a node", claim: func(c *Claim) { c.Pod, c.Node = pod, node }},
		{name: "bound to a secret", claim: func(c *Claim) { c.Secret = secret }},
		{name: "bound to a node", claim: func(c *Claim) { c.Node = node }},
		{name: "expired", later: 2 * time.Hour, want: "has expired"},
		{name: "not yet", later: -2 * time.Hour, want: "not valid yet"},
		{name: "account gone", now: func(c *cluster) { c.drop("serviceaccounts/robot") }, want: "invalidated"},
		{name: "account made again", now: func(c *cluster) { m := meta("robot"); m.UID = "x"; c.put("serviceaccounts/robot", m) }, want: "does not match claim"},
		{name: "account on its way out", now: func(c *cluster) { m := meta("robot"); m.DeletionTimestamp = &old; c.put("serviceaccounts/robot", m) }, want: "invalidated"},
		{name: "pod gone", claim: func(c *Claim) { c.Pod = pod }, now: func(c *cluster) { c.drop("pods/p") }, want: "pod ns/p does not exist"},
		{name: "pod made again", claim: func(c *Claim) { c.Pod = pod }, now: func(c *cluster) { m := meta("p"); m.UID = "x"; c.put("pods/p", m) }, want: "does not match claim"},
		{name: "secret gone", claim: func(c *Claim) { c.Secret = secret }, now: func(c *cluster) { c.drop("secrets/s") }, want: "secret ns/s does not exist"},
		{name: "node gone", claim: func(c *Claim) { c.Node = node }, now: func(c *cluster) { c.drop("nodes/n") }, want: "node n does not exist"},
		{name: "node beside a pod gone", claim: func(c *Claim) { c.Pod, c.Node = pod, node }, now: func(c *cluster) { c.drop("nodes/n") }},
		{name: "another audience", audiences: []string{"vault"}, want: "invalid for the target audiences"},
		{name: "one of several audiences", claim: func(c *Claim) { c.Audiences = []string{"vault", "db"} }, audiences: []string{"db", "mail"}},
		{name: "not for us", claim: func(c *Claim) { c.Audiences = []string{"vault"} }, want: "invalid for the target audiences"},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects, cl := everything(), claim()
			by := tokens(t, TokenConfig{SigningKey: private}, objects)
			if c.claim != nil {
				c.claim(&cl)
			}
			token := issue(t, by, cl)
			if c.now != nil {
				c.now(objects)
			}
			by.now = func() time.Time { return time.Now().Add(c.later) }
			if c.audiences == nil {
				c.audiences = by.Audiences()
			}
			found, err := by.Check(t.Context(), token, c.audiences)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want %q", err, c.want)
				}
				if strings.Contains(err.Error(), token) {
					t.Error("the error shows the token")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			u, meant := found.User, found.Audiences
			if u.Name != "system:serviceaccount:ns:robot" || u.UID != "robot-uid" || len(meant) != 1 ||
				strings.Join(u.Groups, " ") != "system:serviceaccounts system:serviceaccounts:ns system:authenticated" {
				t.Errorf("got %+v for %v", u, meant)
			}
			if id := u.Extra[extraCredential]; len(id) != 1 || !strings.HasPrefix(id[0], "JTI=") {
				t.Errorf("credential id %v", id)
			}
			if cl.Pod != nil && (u.Extra[extraPodName][0] != "p" || u.Extra[extraPodUID][0] != "p-uid") {
				t.Errorf("pod: %v", u.Extra)
			}
			if cl.Node != nil && (u.Extra[extraNodeName][0] != "n" || u.Extra[extraNodeUID][0] != "n-uid") {
				t.Errorf("node: %v", u.Extra)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	private, _ := ecKey(t)
	cl := claim()
	cl.Pod, cl.Node, cl.WarnAfter = &corev1.Pod{ObjectMeta: meta("p")}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, time.Minute
	token := issue(t, tokens(t, TokenConfig{SigningKey: private}, everything()), cl)
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if exp, iat := got["exp"].(float64), got["iat"].(float64); exp-iat != 3600 || got["nbf"] != iat || got["jti"] == "" {
		t.Errorf("times: %v", got)
	}
	own := got["kubernetes.io"].(map[string]any)
	if own["warnafter"].(float64)-got["iat"].(float64) != 60 {
		t.Errorf("warnafter: %v", own)
	}
	delete(own, "warnafter")
	text, err := json.Marshal(own)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"namespace":"ns","node":{"name":"n"},"pod":{"name":"p","uid":"p-uid"},"serviceaccount":{"name":"robot","uid":"robot-uid"}}`
	if string(text) != want || got["sub"] != "system:serviceaccount:ns:robot" || got["iss"] != "https://issuer" {
		t.Errorf("got %s of %v", text, got)
	}
}

func TestKeys(t *testing.T) {
	private, public := ecKey(t)
	otherPrivate, otherPublic := ecKey(t)
	old := rsaKey(t)
	objects := everything()
	now := tokens(t, TokenConfig{SigningKey: private, Keys: []string{public, old}, Issuers: []string{"https://issuer", "before"}}, objects)
	before := tokens(t, TokenConfig{SigningKey: old, Issuers: []string{"before"}}, objects)
	foreign := tokens(t, TokenConfig{SigningKey: otherPrivate, Keys: []string{otherPublic}}, objects)
	stranger := tokens(t, TokenConfig{SigningKey: otherPrivate, Issuers: []string{"https://elsewhere"}}, objects)
	for _, c := range []struct {
		name, token string
		mine, ok    bool
	}{
		{"today's key", issue(t, now, claim()), true, true},
		{"yesterday's key and issuer", issue(t, before, claim()), true, true},
		{"our issuer, a foreign key", issue(t, foreign, claim()), true, false},
		{"another issuer", issue(t, stranger, claim()), false, false},
		{"no token", "abc.def", false, false},
		{"unsigned", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := now.Check(t.Context(), c.token, now.Audiences())
			if (err == nil) != c.ok || errors.Is(err, ErrNotMine) == c.mine {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, _, err := (&Tokens{now: time.Now}).Issue(claim()); !errors.Is(err, ErrNoSigner) {
		t.Errorf("without a key: %v", err)
	}
	if _, err := NewTokens(TokenConfig{SigningKey: private}, objects, zap.NewNop()); err == nil {
		t.Error("an issuer without a name signs")
	}
	if _, err := NewTokens(TokenConfig{Keys: []string{filepath.Join(t.TempDir(), "none")}}, objects, zap.NewNop()); err == nil {
		t.Error("a file that is not there is read")
	}
}

func TestDocuments(t *testing.T) {
	private, public := ecKey(t)
	by := tokens(t, TokenConfig{SigningKey: private, Keys: []string{public, rsaKey(t)}, KeysURL: "https://here/openid/v1/jwks"}, everything())
	docs, err := by.Documents()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"/.well-known/openid-configuration": {`"issuer":"https://issuer"`, `"jwks_uri":"https://here/openid/v1/jwks"`, `["ES256","RS256"]`, `"subject_types_supported":["public"]`},
		"/openid/v1/jwks":                   {`"kty":"EC"`, `"kty":"RSA"`, `"use":"sig"`, `"alg":"ES256"`, `"kid":"` + by.keys[0].id},
	} {
		w := httptest.NewRecorder()
		docs[path](w, httptest.NewRequest("GET", path, nil))
		for _, part := range want {
			if !strings.Contains(w.Body.String(), part) {
				t.Errorf("%s: no %s in %s", path, part, w.Body)
			}
		}
		if strings.Contains(w.Body.String(), `"d":`) {
			t.Errorf("%s shows a private key", path)
		}
	}
	docs, err = tokens(t, TokenConfig{SigningKey: private, Issuers: []string{"me"}}, everything()).Documents()
	if len(docs) != 0 || err != nil {
		t.Errorf("an issuer nobody can ask is described: %v, %v", docs, err)
	}
}
