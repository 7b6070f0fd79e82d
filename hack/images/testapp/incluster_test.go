package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// TestIssuer checks tokens of both kinds of key against an issuer, and spoiled ones.
func TestIssuer(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := fmt.Sprintf(`{"keys":[{"kid":"e","kty":"EC","crv":"P-256","x":%q,"y":%q},{"kid":"r","kty":"RSA","n":%q,"e":"AQAB"}]}`,
		encode(point[1:33]), encode(point[33:]), encode(rs.N.Bytes()))
	var asked []string
	document := `{"issuer":"ISSUER","jwks_uri":"ISSUER/openid/v1/jwks"}`
	var srv *httptest.Server
	srv = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path+" "+r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			fmt.Fprint(w, strings.ReplaceAll(document, "ISSUER", srv.URL))
		case "/openid/v1/jwks":
			fmt.Fprint(w, keys)
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	o := options{folder: t.TempDir(), timeout: 5 * time.Second, audience: "me", count: 1, every: time.Millisecond}
	o.token = filepath.Join(o.folder, "checked")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(o.folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	write("token", "mine\n")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if err := issuer(t.Context(), o); err == nil || !strings.Contains(err.Error(), "not in a cluster") {
		t.Errorf("without the environment: %v", err)
	}
	host, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)

	soon := time.Now().Add(time.Hour).Unix()
	token := func(alg, kid string, claims map[string]any) string {
		t.Helper()
		c, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		signed := encode(fmt.Appendf(nil, `{"alg":%q,"kid":%q}`, alg, kid)) + "." + encode(c)
		hash := sha256.Sum256([]byte(signed))
		var sig []byte
		if alg == "ES256" {
			r, s, err := ecdsa.Sign(rand.Reader, ec, hash[:])
			if err != nil {
				t.Fatal(err)
			}
			sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		} else if sig, err = rsa.SignPKCS1v15(rand.Reader, rs, crypto.SHA256, hash[:]); err != nil {
			t.Fatal(err)
		}
		return signed + "." + encode(sig)
	}
	good := map[string]any{"iss": srv.URL, "sub": "s", "aud": []string{"you", "me"}, "exp": soon}
	with := func(name string, value any) map[string]any {
		out := map[string]any{name: value}
		for k, v := range good {
			if k != name {
				out[k] = v
			}
		}
		return out
	}
	parts := strings.Split(token("ES256", "e", good), ".")
	for _, tc := range []struct{ name, token, want string }{
		{"elliptic", token("ES256", "e", good), ""},
		{"RSA, one audience", token("RS256", "r", with("aud", "me")), ""},
		{"for another", token("ES256", "e", with("aud", "you")), `not for "me"`},
		{"old", token("ES256", "e", with("exp", 5)), "expired"},
		{"of another issuer", token("ES256", "e", with("iss", srv.URL+"/")), "its document says"},
		{"of an unknown key", token("ES256", "x", good), `no key "x"`},
		{"of another kind of key", token("ES256", "r", good), "kind RSA"},
		{"of no algorithm", encode([]byte(`{"alg":"none","kid":"e"}`)) + "." + parts[1] + ".", "signed by none"},
		{"of a spoiled signature", parts[0] + "." + parts[1] + "." + encode(make([]byte, 64)), "not the key's"},
		{"of two parts", parts[0] + "." + parts[1], "three parts"},
		{"nonsense", "!.!.!", "reading part 1"},
	} {
		write("checked", tc.token+"\n")
		err := issuer(t.Context(), o)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if asked[0] != "/.well-known/openid-configuration Bearer mine" {
		t.Errorf("asked for %s", asked[0])
	}
	o.args = []string{"/version"}
	if err := incluster(t.Context(), o); err != nil || asked[len(asked)-1] != "/version Bearer mine" {
		t.Errorf("calling: %v, and asked was %s", err, asked[len(asked)-1])
	}
	write("ca.crt", "nothing")
	if err := incluster(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("with a broken authority: %v", err)
	}
}
