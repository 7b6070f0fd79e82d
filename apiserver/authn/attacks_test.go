package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/pki"
)

// forge signs any claims in any way; kid may be empty.
func forge(t *testing.T, method jose.SignatureAlgorithm, key any, kid string, claims any) string {
	t.Helper()
	o := &jose.SignerOptions{}
	if kid != "" {
		o = o.WithHeader("kid", kid)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: method, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func privateKey(t *testing.T, file string) any {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.ParseKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Tokens that nobody has given: each is refused, whatever key or method it names.
func TestForgedTokens(t *testing.T) {
	ourEC, _ := ecKey(t)
	ourRSA, theirRSA := rsaKey(t), rsaKey(t)
	objects := everything()
	by := tokens(t, TokenConfig{SigningKey: ourEC, Keys: []string{ourEC, ourRSA}}, objects)
	ecID, rsaID := by.keys[0].id, by.keys[1].id
	ecPublic, rsaPublic := by.keys[0].key.(*ecdsa.PublicKey), by.keys[1].key.(*rsa.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(rsaPublic)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKIXPublicKey(ecPublic)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	claims := map[string]any{
		"iss": "https://issuer", "sub": "system:serviceaccount:ns:robot", "aud": []string{"https://issuer"},
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "nbf": time.Now().Unix(),
		"kubernetes.io": map[string]any{"namespace": "ns", "serviceaccount": map[string]any{"name": "robot", "uid": "robot-uid"}},
	}
	with := func(key string, value any) map[string]any {
		c := map[string]any{}
		for k, v := range claims {
			c[k] = v
		}
		c[key] = value
		return c
	}
	good := issue(t, by, claim())
	parts := strings.Split(good, ".")
	plain, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	for _, c := range []struct {
		name, token string
		ok          bool
	}{
		{"ours", good, true},
		{"ours, made by hand", forge(t, jose.RS256, privateKey(t, ourRSA), rsaID, claims), true},
		{"ours without a key's id", forge(t, jose.RS256, privateKey(t, ourRSA), "", claims), true},
		{"alg none", encode([]byte(`{"alg":"none"}`)) + "." + encode(plain) + ".", false},
		{"alg None", encode([]byte(`{"alg":"None"}`)) + "." + encode(plain) + ".", false},
		{"alg none with our signature", encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + "." + parts[2], false},
		{"no alg", encode([]byte(`{}`)) + "." + parts[1] + "." + parts[2], false},
		{"HS256 with the public key in PEM as secret", forge(t, jose.HS256, text, rsaID, claims), false},
		{"HS256 with the public key in DER as secret", forge(t, jose.HS256, der, rsaID, claims), false},
		{"HS256 with the EC key as secret", forge(t, jose.HS256, ecDER, ecID, claims), false},
		{"RS256 by another key", forge(t, jose.RS256, privateKey(t, theirRSA), "", claims), false},
		{"RS256 by another key with our id", forge(t, jose.RS256, privateKey(t, theirRSA), rsaID, claims), false},
		{"our key with the id of another of ours", forge(t, jose.RS256, privateKey(t, ourRSA), ecID, claims), false},
		{"our key, a method that is not its own", forge(t, jose.PS256, privateKey(t, ourRSA), rsaID, claims), false},
		{"our key, a longer hash", forge(t, jose.RS512, privateKey(t, ourRSA), rsaID, claims), false},
		{"another's claims, our signature", parts[0] + "." + encode(plain) + "." + parts[2], false},
		{"no signature", parts[0] + "." + parts[1] + ".", false},
		{"another account than the subject", forge(t, jose.RS256, privateKey(t, ourRSA), rsaID, with("sub", "system:serviceaccount:ns:other")), false},
		{"no account", forge(t, jose.RS256, privateKey(t, ourRSA), rsaID, with("kubernetes.io", map[string]any{})), false},
		{"no end", forge(t, jose.RS256, privateKey(t, ourRSA), rsaID, with("exp", nil)), false},
		{"for nobody", forge(t, jose.RS256, privateKey(t, ourRSA), rsaID, with("aud", nil)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := open(t, Config{CacheTTL: time.Minute}, Parts{Tokens: by})
			r := asking("/livez") // where nobody would be let in
			r.Header.Set("Authorization", "Bearer "+c.token)
			u, err := a.User(r)
			if (err == nil) != c.ok {
				t.Fatalf("got %v, %v", u, err)
			}
			if err != nil && strings.Contains(err.Error(), c.token) {
				t.Error("the error shows the token")
			}
		})
	}
}

// What a token proved is believed for a while without looking at its signature, yet ends the moment that what it depends on does.
func TestCache(t *testing.T) {
	private, _ := ecKey(t)
	pod := &corev1.Pod{ObjectMeta: meta("p")}
	for _, c := range []struct {
		name  string
		claim func(*Claim)
		then  func(*cluster)
	}{
		{"the pod goes", func(c *Claim) { c.Pod = pod }, func(c *cluster) { c.drop("pods/p") }},
		{"the pod is made again", func(c *Claim) { c.Pod = pod }, func(c *cluster) { m := meta("p"); m.UID = "x"; c.put("pods/p", m) }},
		{"the secret goes", func(c *Claim) { c.Secret = &corev1.Secret{ObjectMeta: meta("s")} }, func(c *cluster) { c.drop("secrets/s") }},
		{"the node goes", func(c *Claim) { c.Node = &corev1.Node{ObjectMeta: meta("n")} }, func(c *cluster) { c.drop("nodes/n") }},
		{"the account goes", func(*Claim) {}, func(c *cluster) { c.drop("serviceaccounts/robot") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects, cl := everything(), claim()
			c.claim(&cl)
			by := tokens(t, TokenConfig{SigningKey: private}, objects)
			a := open(t, Config{CacheTTL: time.Hour}, Parts{Tokens: by})
			token := issue(t, by, cl)
			check := func() error { _, _, err := a.Check(t.Context(), token, nil); return err }
			for range 3 {
				if err := check(); err != nil {
					t.Fatal(err)
				}
			}
			if hit, miss := testutil.ToFloat64(a.metrics.cacheHit), testutil.ToFloat64(a.metrics.cacheMiss); hit != 2 || miss != 1 {
				t.Errorf("%v hits, %v misses", hit, miss)
			}
			if want := len(dependencies(&bound{Pod: refOf(cl.Pod), Secret: refOf(cl.Secret), Node: refOf(cl.Node)})); objects.decoded != want {
				t.Errorf("%d objects read, %d are looked at", objects.decoded, want)
			}
			c.then(objects)
			if err := check(); err == nil {
				t.Error("still believed")
			}
		})
	}
}

func TestCacheBounds(t *testing.T) {
	now := time.Now()
	m := open(t, Config{}, Parts{}).metrics
	c := newCache(10*time.Second, m)
	c.now = func() time.Time { return now }
	asked := 0
	get := func(token string, until time.Time, audiences ...string) {
		t.Helper()
		_, err := c.get(t.Context(), token, audiences, func(context.Context, string, []string) (*Found, error) { asked++; return &Found{Until: until}, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	get("a", time.Time{})
	get("a", time.Time{})
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	get("a", time.Time{}, "for another")
	if asked != 2 {
		t.Error("what was found for one audience is believed for another")
	}
	if hashOf("a", []string{"b\x00c"}) == hashOf("a", []string{"b", "c"}) || hashOf("a\x00b", nil) == hashOf("a", []string{"b"}) {
		t.Error("what was found for one audience is believed for another that contains it")
	}
	now = now.Add(11 * time.Second)
	get("a", now.Add(time.Second)) // it ends earlier than the cache would believe it
	now = now.Add(2 * time.Second)
	get("a", time.Time{})
	if asked != 4 {
		t.Errorf("asked %d times; what is over must be asked again", asked)
	}
	for n := range 5 * generation {
		get(fmt.Sprint(n), time.Time{})
	}
	if have := len(c.young) + len(c.old); have > 2*generation {
		t.Errorf("%d tokens kept", have)
	}
}

func TestStaleTokens(t *testing.T) {
	private, _ := ecKey(t)
	by := tokens(t, TokenConfig{SigningKey: private}, everything())
	cl := claim()
	cl.WarnAfter = time.Minute
	token := issue(t, by, cl)
	for _, c := range []struct {
		later        time.Duration
		valid, stale float64
	}{{0, 1, 0}, {2 * time.Minute, 1, 1}} {
		by.now = func() time.Time { return time.Now().Add(c.later) }
		if _, err := by.Check(t.Context(), token, by.Audiences()); err != nil {
			t.Fatal(err)
		}
		if v, s := testutil.ToFloat64(by.metrics.valid), testutil.ToFloat64(by.metrics.stale); v != c.valid || s != c.stale {
			t.Errorf("after %s: %v valid, %v stale", c.later, v, s)
		}
	}
}

// Tokens of secrets hold while the secret and the account do.
func TestLegacy(t *testing.T) {
	private := rsaKey(t)
	old := metav1.NewTime(time.Now().Add(-time.Minute))
	today := time.Now().UTC().Format(time.DateOnly)
	base := map[string]any{
		"iss": legacyIssuer, "sub": "system:serviceaccount:ns:robot", "kubernetes.io/serviceaccount/namespace": "ns",
		"kubernetes.io/serviceaccount/service-account.name": "robot", "kubernetes.io/serviceaccount/service-account.uid": "robot-uid",
		"kubernetes.io/serviceaccount/secret.name": "s",
	}
	for _, c := range []struct {
		name      string
		claims    map[string]any
		change    func(*cluster, *corev1.Secret)
		unchecked bool
		audiences []string
		want      string // part of the error
		marked    bool
	}{
		{name: "good", marked: true},
		{name: "used before today", change: func(_ *cluster, s *corev1.Secret) { s.Labels = map[string]string{lastUsed: "2020-01-01"} }, marked: true},
		{name: "used today", change: func(_ *cluster, s *corev1.Secret) { s.Labels = map[string]string{lastUsed: today} }},
		{name: "secret gone", change: func(_ *cluster, s *corev1.Secret) { s.Name = "other" }, want: "invalidated"},
		{name: "secret going", change: func(_ *cluster, s *corev1.Secret) { s.DeletionTimestamp = &old }, want: "invalidated"},
		{name: "secret of another type", change: func(_ *cluster, s *corev1.Secret) { s.Type = "Opaque" }, want: "invalidated"},
		{name: "secret with another token", change: func(_ *cluster, s *corev1.Secret) { s.Data["token"] = []byte("x") }, want: "does not match server's copy"},
		{name: "secret of another account", change: func(_ *cluster, s *corev1.Secret) { s.Annotations[corev1.ServiceAccountNameKey] = "x" }, want: "invalidated"},
		{name: "secret of the account before", change: func(_ *cluster, s *corev1.Secret) { s.Annotations[corev1.ServiceAccountUIDKey] = "x" }, want: "invalidated"},
		{name: "account gone", change: func(c *cluster, _ *corev1.Secret) { c.drop("serviceaccounts/robot") }, want: "does not exist"},
		{name: "account made again", change: func(c *cluster, _ *corev1.Secret) { m := meta("robot"); m.UID = "x"; c.put("serviceaccounts/robot", m) }, want: "does not match claim"},
		{name: "account going", change: func(c *cluster, _ *corev1.Secret) {
			m := meta("robot")
			m.DeletionTimestamp = &old
			c.put("serviceaccounts/robot", m)
		}, want: "has been deleted"},
		{name: "marked invalid", change: func(_ *cluster, s *corev1.Secret) { s.Labels = map[string]string{invalidSince: "2024-01-01"} }, want: "has been marked invalid", marked: true},
		{name: "for another audience", audiences: []string{"vault"}, want: "invalid for the target audiences"},
		{name: "without a secret's name", claims: map[string]any{"kubernetes.io/serviceaccount/secret.name": ""}, want: "secretName claim is missing"},
		{name: "of another subject", claims: map[string]any{"sub": "system:serviceaccount:ns:other"}, want: "sub claim is invalid"},
		{name: "expired", claims: map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, want: "could not be validated"},
		{name: "not looked up", change: func(c *cluster, _ *corev1.Secret) { c.drop("serviceaccounts/robot") }, unchecked: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects := everything()
			by := tokens(t, TokenConfig{Keys: []string{private}, Unchecked: c.unchecked}, objects)
			by.Marks(objects)
			claims := map[string]any{}
			for k, v := range base {
				claims[k] = v
			}
			for k, v := range c.claims {
				claims[k] = v
			}
			token := forge(t, jose.RS256, privateKey(t, private), "", claims)
			s := &corev1.Secret{ObjectMeta: meta("s"), Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(token)}}
			s.Annotations = map[string]string{corev1.ServiceAccountNameKey: "robot", corev1.ServiceAccountUIDKey: "robot-uid"}
			objects.drop("secrets/s")
			if c.change != nil {
				c.change(objects, s)
			}
			objects.putSecret(s)
			if c.audiences == nil {
				c.audiences = by.Audiences()
			}
			found, err := by.Check(t.Context(), token, c.audiences)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("got %v, %v, want %q", found, err, c.want)
			}
			if want := []string{"s " + today}; (len(objects.marked) == 1 && objects.marked[0] == want[0]) != c.marked {
				t.Errorf("marked %v", objects.marked)
			}
			if err != nil {
				return
			}
			if u := found.User; u.Name != "system:serviceaccount:ns:robot" || u.UID != "robot-uid" || len(u.Groups) != 3 {
				t.Errorf("got %+v", u)
			}
			if c.unchecked {
				return
			}
			before := objects.decoded
			if err := found.Still(t.Context()); err != nil || objects.decoded != before {
				t.Errorf("again: %v, %d objects read", err, objects.decoded-before)
			}
			objects.drop("secrets/s")
			if err := found.Still(t.Context()); err == nil {
				t.Error("believed after the secret is gone")
			}
		})
	}
}

// A secret that its account lists was made by the cluster itself, long ago: its user is warned.
func TestLegacyOfTheCluster(t *testing.T) {
	private := rsaKey(t)
	objects := everything()
	by := tokens(t, TokenConfig{Keys: []string{private}}, objects)
	token := forge(t, jose.RS256, privateKey(t, private), "", map[string]any{
		"iss": legacyIssuer, "sub": "system:serviceaccount:ns:robot", "kubernetes.io/serviceaccount/namespace": "ns",
		"kubernetes.io/serviceaccount/service-account.name": "robot", "kubernetes.io/serviceaccount/service-account.uid": "robot-uid",
		"kubernetes.io/serviceaccount/secret.name": "s",
	})
	s := &corev1.Secret{ObjectMeta: meta("s"), Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(token)}}
	s.Annotations = map[string]string{corev1.ServiceAccountNameKey: "robot"}
	objects.putSecret(s)
	objects.putAccount(&corev1.ServiceAccount{ObjectMeta: meta("robot"), Secrets: []corev1.ObjectReference{{Name: "s"}}})
	var warned []string
	r := asking("/api")
	ctx := request.Begin(t.Context(), request.Parse(r), zap.NewNop(), func(text string) { warned = append(warned, text) })
	if _, err := by.Check(ctx, token, by.Audiences()); err != nil {
		t.Fatal(err)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "instead of auto-generated secret-based tokens") || testutil.ToFloat64(by.metrics.legacyAuto) != 1 {
		t.Errorf("warned %q", warned)
	}
}
