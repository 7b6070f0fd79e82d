package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/request"
)

// methods are the ways of signing that are known; all rest on a public key.
var methods = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}

// issuer checks the tokens of one issuer.
//
//	unknown ──its discovery document is read──▶ ready ──it is not in the configuration any more──▶ dropped
//	   ▲  └──it cannot be, again a while later──┐
//	   └────────────────────────────────────────┘
type issuer struct {
	t       trusted
	text    string // the configuration, to be compared
	client  *http.Client
	ready   atomic.Pointer[goidc.IDTokenVerifier]
	trouble atomic.Pointer[error] // why it is not ready
	dropped atomic.Bool
	now     func() time.Time

	once sync.Once
	stop context.CancelFunc // set by once
}

const (
	answerTime = 10 * time.Second // for an issuer to answer
	mostAnswer = 1 << 20
	firstPause = time.Second // before discovery is tried again, then twice as long each
	mostPause  = 10 * time.Second
)

// New keys may be asked for at once this often, and once more each ten seconds: a token that names a key which does not exist must not
// cost the issuer a request.
const keyBurst = 5

func newIssuer(t trusted) (*issuer, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("comparing issuers: %w", err)
	}
	var roots *x509.CertPool // nil: those of the system
	if ca := t.Issuer.CertificateAuthority; ca != "" {
		roots = x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(ca)) // checked before
	}
	via := &transport{
		base: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: answerTime, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		},
		wellKnown: strings.TrimSuffix(t.Issuer.URL, "/") + "/.well-known/openid-configuration",
		limit:     rate.NewLimiter(rate.Every(10*time.Second), keyBurst),
	}
	if t.Issuer.DiscoveryURL != "" {
		if via.instead, err = url.Parse(t.Issuer.DiscoveryURL); err != nil {
			return nil, err
		}
	}
	return &issuer{t: t, text: string(text) + strings.Join(t.Methods, ","), now: time.Now, client: &http.Client{
		Transport: via, Timeout: answerTime,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "https" || len(via) > 5 {
				return errors.New("redirected to what is not https, or too often")
			}
			return nil
		},
	}}, nil
}

// transport asks an issuer: for its discovery document where the configuration says, for little at a time and not for ever.
type transport struct {
	base      http.RoundTripper
	wellKnown string
	instead   *url.URL // nil: at wellKnown
	limit     *rate.Limiter
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case r.URL.String() != t.wellKnown:
		if !t.limit.Allow() {
			return nil, errors.New("its keys were asked for too often")
		}
	case t.instead != nil:
		r = r.Clone(r.Context())
		r.Host, r.URL = "", t.instead
	}
	answer, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, mostAnswer), answer.Body}
	return answer, nil
}

// discover reads the issuer's document, again and again until it succeeds or ctx ends.
func (i *issuer) discover(ctx context.Context, log *zap.Logger) {
	ctx = goidc.ClientContext(ctx, i.client)
	log = log.With(zap.String("issuer", i.t.Issuer.URL))
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		p, err := goidc.NewProvider(ctx, i.t.Issuer.URL)
		if err == nil {
			i.ready.Store(p.VerifierContext(ctx, &goidc.Config{
				SkipClientIDCheck:    true, // of several audiences any will do: see Check
				SupportedSigningAlgs: i.methods(), Now: i.now,
			}))
			log.Info("tokens of the issuer are accepted")
			return
		}
		if ctx.Err() != nil {
			return
		}
		if i.trouble.Swap(&err) == nil {
			log.Warn("the issuer of tokens cannot be asked; it is tried again", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (i *issuer) methods() []string {
	if len(i.t.Methods) > 0 {
		return i.t.Methods
	}
	return methods
}

// check tells whose a token is that says it is of this issuer.
func (i *issuer) check(ctx context.Context, token string) (*authn.Found, error) {
	v := i.ready.Load()
	if v == nil {
		if err := i.trouble.Load(); err != nil {
			return nil, fmt.Errorf("oidc: authenticator not initialized: %w", *err)
		}
		return nil, errors.New("oidc: authenticator not initialized")
	}
	id, err := v.Verify(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("oidc: verify token: %w", err)
	}
	if !slices.ContainsFunc(id.Audience, func(a string) bool { return slices.Contains(i.t.Issuer.Audiences, a) }) {
		return nil, fmt.Errorf("oidc: verify token: oidc: expected audience in %q got %q", i.t.Issuer.Audiences, id.Audience)
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return nil, fmt.Errorf("oidc: parse claims: %w", err)
	}
	u, err := i.user(c)
	if err != nil {
		return nil, err
	}
	return &authn.Found{User: u, Until: id.Expiry, Still: i.still}, nil
}

func (i *issuer) still(context.Context) error {
	if i.dropped.Load() {
		return fmt.Errorf("oidc: issuer %s is not in the configuration any more", i.t.Issuer.URL)
	}
	return nil
}

// claims are what a token says, each still in JSON.
type claims map[string]json.RawMessage

// user reads the claims as the configuration maps them.
func (i *issuer) user(c claims) (*request.User, error) {
	u := &request.User{}
	m := &i.t.ClaimMappings
	if err := c.text(m.Username.Claim, &u.Name); err != nil {
		return nil, fmt.Errorf("oidc: parse username claims %q: %w", m.Username.Claim, err)
	}
	if u.Name == "" {
		return nil, fmt.Errorf("oidc: username claim %q is empty", m.Username.Claim)
	}
	if verified, ok := c["email_verified"]; ok && m.Username.Claim == "email" {
		var yes bool
		if err := json.Unmarshal(verified, &yes); err != nil {
			return nil, errors.New(`oidc: parse "email_verified" claim: it is no boolean`)
		}
		if !yes {
			return nil, errors.New("oidc: email not verified")
		}
	}
	u.Name = *m.Username.Prefix + u.Name
	if _, ok := c[m.Groups.Claim]; ok && m.Groups.Claim != "" {
		groups, err := c.texts(m.Groups.Claim)
		if err != nil {
			return nil, fmt.Errorf("oidc: parse groups claim %q: %w", m.Groups.Claim, err)
		}
		for _, g := range groups {
			u.Groups = append(u.Groups, *m.Groups.Prefix+g)
		}
	}
	if m.UID.Claim != "" {
		if err := c.text(m.UID.Claim, &u.UID); err != nil {
			return nil, fmt.Errorf("oidc: parse uid claim %q: %w", m.UID.Claim, err)
		}
	}
	for _, r := range i.t.ClaimValidationRules {
		var have string
		if _, ok := c[r.Claim]; !ok {
			return nil, fmt.Errorf("oidc: required claim %s not present in ID token", r.Claim)
		}
		if err := c.text(r.Claim, &have); err != nil {
			return nil, fmt.Errorf("oidc: parse claim %s: %w", r.Claim, err)
		}
		if have != r.RequiredValue {
			return nil, fmt.Errorf("oidc: required claim %s value does not match. Got = %s, want = %s", r.Claim, have, r.RequiredValue)
		}
	}
	return u, nil
}

func (c claims) text(claim string, into *string) error {
	b, ok := c[claim]
	if !ok {
		return errors.New("claim not present")
	}
	if json.Unmarshal(b, into) != nil || string(b) == "null" {
		return errors.New("it is no string")
	}
	return nil
}

// texts takes a list, or one text alone.
func (c claims) texts(claim string) ([]string, error) {
	var many []string
	if json.Unmarshal(c[claim], &many) == nil {
		return many, nil
	}
	var one string
	if err := c.text(claim, &one); err != nil {
		return nil, errors.New("it is neither a string nor a list of strings")
	}
	if one == "" {
		return nil, nil
	}
	return []string{one}, nil
}
