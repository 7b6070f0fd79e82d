package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// insider calls the API server as a pod does: by the address in its environment, the authority and the token in its folder.
type insider struct {
	folder string
	server string // host:port
	client *http.Client
}

func newInsider(o options) (*insider, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: not in a cluster")
	}
	pem, err := os.ReadFile(filepath.Join(o.folder, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s/ca.crt holds no certificate", o.folder)
	}
	in := &insider{folder: o.folder, server: net.JoinHostPort(host, port)}
	in.client = &http.Client{Timeout: o.timeout, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			// The server's names in the cluster need no DNS: they are this address.
			if strings.HasPrefix(addr, "kubernetes.default.svc") {
				addr = in.server
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}}
	return in, nil
}

// get asks with the token as it is now: it is renewed from time to time.
func (in *insider) get(ctx context.Context, url string) (code int, body []byte, token string, err error) {
	raw, err := os.ReadFile(filepath.Join(in.folder, "token"))
	if err != nil {
		return 0, nil, "", err
	}
	token = strings.TrimSpace(string(raw))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := in.client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, token, err
}

// incluster calls paths of the API server, count times each, and says how it was answered and by which token (the first bytes of
// its hash).
func incluster(ctx context.Context, o options) error {
	in, err := newInsider(o)
	if err != nil {
		return err
	}
	for i := 0; o.count == 0 || i < o.count; i++ {
		for _, path := range o.args {
			code, _, token, err := in.get(ctx, "https://"+in.server+path)
			if err != nil {
				return fmt.Errorf("calling %s: %w", path, err)
			}
			fmt.Printf("calling %s: %d with token %x\n", path, code, sha256.Sum256([]byte(token)))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.every):
		}
	}
	return nil
}

// issuer checks a token as somebody does who knows nothing but the token and whom it should be for: it finds its issuer's keys by
// OpenID discovery (https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig).
func issuer(ctx context.Context, o options) error {
	in, err := newInsider(o)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(o.token)
	if err != nil {
		return err
	}
	t, err := parseToken(strings.TrimSpace(string(raw)))
	if err != nil {
		return err
	}
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := in.document(ctx, strings.TrimSuffix(t.claims.Issuer, "/")+"/.well-known/openid-configuration", &document); err != nil {
		return err
	}
	fmt.Println("issuer", document.Issuer, "has its keys at", document.Keys)
	if document.Issuer != t.claims.Issuer {
		return fmt.Errorf("the token's issuer is %q, and its document says %q", t.claims.Issuer, document.Issuer)
	}
	var keys struct {
		Keys []key `json:"keys"`
	}
	if err := in.document(ctx, document.Keys, &keys); err != nil {
		return err
	}
	if err := t.verify(keys.Keys, o.audience, time.Now()); err != nil {
		return err
	}
	fmt.Println("the token of", t.claims.Subject, "is good")
	return nil
}

func (in *insider) document(ctx context.Context, url string, into any) error {
	code, body, _, err := in.get(ctx, url)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("%s: %d: %.300s", url, code, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("reading %s: %w", url, err)
	}
	return nil
}

// token is a JSON web token (RFC 7519), taken apart.
type token struct {
	signed    string
	signature []byte
	header    struct {
		Algorithm string `json:"alg"`
		Key       string `json:"kid"`
	}
	claims struct {
		Issuer   string   `json:"iss"`
		Subject  string   `json:"sub"`
		Audience audience `json:"aud"`
		Expires  int64    `json:"exp"`
	}
}

// audience is one name or several.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

func parseToken(raw string) (*token, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("a token has three parts, this one %d", len(parts))
	}
	t := &token{signed: parts[0] + "." + parts[1]}
	for i, into := range []any{&t.header, &t.claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			return nil, fmt.Errorf("reading part %d of the token: %w", i+1, err)
		}
	}
	var err error
	if t.signature, err = base64.RawURLEncoding.DecodeString(parts[2]); err != nil {
		return nil, fmt.Errorf("reading the token's signature: %w", err)
	}
	return t, nil
}

// key is a public key (RFC 7517) of one of the two kinds that sign service accounts' tokens.
type key struct {
	ID    string `json:"kid"`
	Kind  string `json:"kty"`
	Curve string `json:"crv"`
	X     number `json:"x"`
	Y     number `json:"y"`
	N     number `json:"n"`
	E     number `json:"e"`
}

// number is written in base 64, the highest bytes first.
type number struct{ big.Int }

func (n *number) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil && len(raw) > 1024 {
		err = errors.New("the number is too long")
	}
	if err != nil {
		return err
	}
	n.SetBytes(raw)
	return nil
}

// verify says what is wrong with the token.
func (t *token) verify(keys []key, want string, now time.Time) error {
	at := slices.IndexFunc(keys, func(k key) bool { return k.ID == t.header.Key })
	if at < 0 {
		return fmt.Errorf("the issuer has no key %q", t.header.Key)
	}
	k, hash := keys[at], sha256.Sum256([]byte(t.signed))
	switch {
	case t.header.Algorithm == "RS256" && k.Kind == "RSA":
		if err := rsa.VerifyPKCS1v15(&rsa.PublicKey{N: &k.N.Int, E: int(k.E.Int64())}, crypto.SHA256, hash[:], t.signature); err != nil {
			return err
		}
	case t.header.Algorithm == "ES256" && k.Kind == "EC" && k.Curve == "P-256" && k.X.BitLen() <= 256 && k.Y.BitLen() <= 256 && len(t.signature) == 64:
		point := append([]byte{4}, append(k.X.FillBytes(make([]byte, 32)), k.Y.FillBytes(make([]byte, 32))...)...)
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			return fmt.Errorf("reading key %q: %w", k.ID, err)
		}
		r, s := new(big.Int).SetBytes(t.signature[:32]), new(big.Int).SetBytes(t.signature[32:])
		if !ecdsa.Verify(public, hash[:], r, s) {
			return errors.New("the signature is not the key's")
		}
	default:
		return fmt.Errorf("a token signed by %s with a key of kind %s", t.header.Algorithm, k.Kind)
	}
	if !slices.Contains(t.claims.Audience, want) {
		return fmt.Errorf("the token is for %v, not for %q", t.claims.Audience, want)
	}
	if now.Unix() >= t.claims.Expires {
		return errors.New("the token has expired")
	}
	return nil
}
