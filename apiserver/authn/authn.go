// Package authn says who a caller is. He proves it by a client certificate (certificate.go), by the word of a front proxy
// (frontproxy.go), or by a bearer token: one of a service account, which this package also issues (tokens.go, check.go, legacy.go), one
// of a file (static.go), one for joining (bootstrap.go), or one that a web service knows (webhook.go); the tokens of OpenID issuers
// are a room of their own above this one. The first proof that holds counts. A proof that does not hold, with none that does, is
// refused and never passed off as nobody's; who gives none is system:anonymous where that is allowed (anonymous.go).
//
// The filter that authenticates and the reviews of tokens call it. It leaves what a caller may do to authz. No token is ever part of
// an error or a log line, and no credential is left in a request whose caller is known.
package authn

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/hookclient"
	"pilothouse.dev/apiserver/request"
)

// Names of callers as Kubernetes users know them.
const (
	Anonymous       = "system:anonymous"
	Unauthenticated = "system:unauthenticated"
	Authenticated   = "system:authenticated"
)

// ErrNotMine is what a Bearer says of a token that somebody else may know.
var ErrNotMine = errors.New("invalid bearer token")

var (
	errCredentials = errors.New("the Authorization header names a credential this server does not know: use a client certificate or a bearer token")
	errNobody      = errors.New("no credential is given, and nobody may ask for this anonymously")
)

// Found is what a token proves.
type Found struct {
	User      *request.User // shared by all requests with the token: nobody changes it
	Audiences []string      // those of the audiences asked for that the token is for
	// Until is when this must be found out anew at the latest; zero: as late as the cache likes.
	Until time.Time
	// Still, when not nil, is asked at every use until then: whether what the token depends on is still there. It is quick.
	Still func(ctx context.Context) error
}

// Bearer tells whose a token is. Safe for concurrent use.
type Bearer interface {
	// Check returns whose a token is that is for one of the audiences (at least one). The error is ErrNotMine when another may know
	// the token; else it says why the token is not valid, without showing it.
	Check(ctx context.Context, token string, audiences []string) (*Found, error)
}

// Issuers are the tokens of OpenID issuers, and what the file that names them says of those who give no proof.
type Issuers interface {
	Bearer
	Nobody() *Nobody // nil: the file says nothing of them
}

// Config is filled from flags.
type Config struct {
	ClientCAFile string // who signs client certificates; empty: none count
	FrontProxy   FrontProxyConfig
	TokenFile    string
	Bootstrap    bool          // tokens for joining count
	Audiences    []string      // whom tokens must be for
	CacheTTL     time.Duration // how long what a token proved is believed; 0: not at all
	Anonymous    *bool         // nil: for DefaultPaths
	Webhook      WebhookConfig
}

// Parts are what an Authenticator needs of others.
type Parts struct {
	Tokens  *Tokens // of service accounts; nil: none
	Issuers Issuers // nil: none
	Objects Objects
	Metrics prometheus.Registerer
	Log     *zap.Logger
}

// Authenticator tells callers. Safe for concurrent use.
type Authenticator struct {
	audiences []string
	front     *frontProxy   // nil: none is believed
	clients   *certificates // nil: none count
	bearers   []Bearer
	issuers   Issuers // nil: none; also among the bearers
	nobody    *Nobody
	cache     *cache // nil: nothing is kept
	metrics   *metrics
}

// New makes an authenticator of bearers alone, whose tokens must be for the audience "", and lets nobody in without a proof but as
// DefaultPaths say.
func New(bearers ...Bearer) *Authenticator {
	return &Authenticator{audiences: []string{""}, bearers: bearers, nobody: defaultNobody, metrics: newMetrics(prometheus.NewRegistry())}
}

// Open reads the files that cfg names and makes the authenticator of all that it says. An error names the file.
func Open(cfg Config, p Parts) (*Authenticator, error) {
	a := &Authenticator{audiences: cfg.Audiences, nobody: defaultNobody, issuers: p.Issuers, metrics: newMetrics(p.Metrics)}
	if cfg.Anonymous != nil {
		a.nobody = &Nobody{Allowed: *cfg.Anonymous}
	}
	if err := cfg.FrontProxy.Check(); err != nil {
		return nil, err
	}
	var err error
	if cfg.FrontProxy.CAFile != "" {
		if a.front, err = newFrontProxy(cfg.FrontProxy, a.reloaded(p.Log, "requestheader-client-ca", cfg.FrontProxy.CAFile)); err != nil {
			return nil, fmt.Errorf("--requestheader-client-ca-file: %w", err)
		}
	}
	if cfg.ClientCAFile != "" {
		if a.clients, err = newCertificates(cfg.ClientCAFile, a.reloaded(p.Log, "client-ca", cfg.ClientCAFile), a.metrics.certificate); err != nil {
			return nil, fmt.Errorf("--client-ca-file: %w", err)
		}
	}
	if cfg.TokenFile != "" {
		file, err := readTokenFile(cfg.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-auth-file: %w", err)
		}
		a.bearers = append(a.bearers, agnostic{file, cfg.Audiences})
	}
	if p.Tokens != nil {
		p.Tokens.metrics = a.metrics
		a.bearers = append(a.bearers, p.Tokens)
	}
	if cfg.Bootstrap {
		a.bearers = append(a.bearers, agnostic{&joiners{p.Objects, p.Log.Named("bootstrap-tokens"), time.Now}, cfg.Audiences})
	}
	if p.Issuers != nil { // after the service accounts: an issuer may have to be asked for its keys
		a.bearers = append(a.bearers, agnostic{p.Issuers, cfg.Audiences})
	}
	if cfg.Webhook.File != "" {
		if err := cfg.Webhook.Check(); err != nil {
			return nil, err
		}
		to, err := hookclient.FromKubeconfig(cfg.Webhook.File, hookclient.Options{})
		if err != nil {
			return nil, fmt.Errorf("--authentication-token-webhook-config-file: %w", err)
		}
		a.bearers = append(a.bearers, newWebhook(to, cfg.Webhook, cfg.Audiences))
	}
	if cfg.CacheTTL > 0 {
		a.cache = newCache(cfg.CacheTTL, a.metrics)
	}
	return a, nil
}

// Authorities are those that may have signed a client's certificate, for clients to choose one by; nil when there are none.
func (a *Authenticator) Authorities() *x509.CertPool {
	now := time.Now()
	switch {
	case a.clients == nil && a.front == nil:
		return nil
	case a.front == nil:
		return a.clients.ca.Current(now).Pool
	case a.clients == nil:
		return a.front.ca.Current(now).Pool
	}
	pool := a.clients.ca.Current(now).Pool.Clone()
	for _, c := range a.front.ca.Current(now).All {
		pool.AddCert(c)
	}
	return pool
}

// User returns the caller, and takes out of the request what he proved it by and whatever else tells a caller. The error says why his
// proofs do not hold, or that he gave none and needs one.
func (a *Authenticator) User(r *http.Request) (*request.User, error) {
	start := time.Now()
	u, err := a.identify(r, start)
	a.metrics.attempt(u, err, time.Since(start))
	if err != nil {
		return nil, err
	}
	a.clean(r.Header)
	return u, nil
}

func (a *Authenticator) identify(r *http.Request, now time.Time) (*request.User, error) {
	var told []error
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if u, err := a.byCertificate(r, now); u != nil {
			return u, nil
		} else if err != nil {
			told = append(told, err)
		}
	}
	for _, find := range []func(http.Header) (string, error){bearerOf, protocolOf} {
		token, err := find(r.Header)
		if err != nil {
			told = append(told, err)
		}
		if token == "" {
			continue
		}
		found, err := a.found(r.Context(), token, a.audiences)
		if err == nil {
			return found.User, nil
		}
		told = append(told, err)
	}
	if len(told) > 0 {
		return nil, errors.Join(told...)
	}
	nobody := a.nobody
	if a.issuers != nil {
		if of := a.issuers.Nobody(); of != nil {
			nobody = of
		}
	}
	if nobody.may(r.URL.Path) {
		return anonymous, nil
	}
	return nil, errNobody
}

// byCertificate tells a caller by the certificate of his connection, or whom a front proxy names. It returns nothing when there is
// nothing wrong and nobody named.
func (a *Authenticator) byCertificate(r *http.Request, now time.Time) (*request.User, error) {
	var told error
	if a.front != nil {
		u, err := a.front.user(r, now)
		if u != nil {
			return u, nil
		}
		told = err
	}
	if a.clients != nil {
		u, err := a.clients.user(r, now)
		if u != nil {
			return u, nil
		}
		told = errors.Join(told, err)
	}
	return nil, told
}

// Check says whose a token is, and for which of the audiences; none: this server's own are meant. The error says why it is not valid.
func (a *Authenticator) Check(ctx context.Context, token string, audiences []string) (*request.User, []string, error) {
	if len(audiences) == 0 {
		audiences = a.audiences
	}
	found, err := a.found(ctx, token, audiences)
	if err != nil {
		return nil, nil, err
	}
	return found.User, found.Audiences, nil
}

// found asks each bearer in turn, unless the answer is at hand.
func (a *Authenticator) found(ctx context.Context, token string, audiences []string) (*Found, error) {
	if a.cache == nil {
		return a.ask(ctx, token, audiences)
	}
	return a.cache.get(ctx, token, audiences, a.ask)
}

func (a *Authenticator) ask(ctx context.Context, token string, audiences []string) (*Found, error) {
	var told []error
	for _, b := range a.bearers {
		found, err := b.Check(ctx, token, audiences)
		switch {
		case err == nil:
			found.User = authenticated(found.User)
			return found, nil
		case !errors.Is(err, ErrNotMine):
			told = append(told, err)
		}
	}
	if len(told) == 0 {
		return nil, ErrNotMine
	}
	return nil, errors.Join(told...)
}

// authenticated is the user in the group of all who are somebody.
func authenticated(u *request.User) *request.User {
	if u.Name == Anonymous || u.InGroup(Authenticated) || u.InGroup(Unauthenticated) {
		return u
	}
	in := *u
	in.Groups = append(append(make([]string, 0, len(u.Groups)+1), u.Groups...), Authenticated)
	return &in
}

// agnostic is a bearer whose tokens say nothing of audiences: they are for this server.
type agnostic struct {
	Bearer
	own []string
}

func (g agnostic) Check(ctx context.Context, token string, audiences []string) (*Found, error) {
	meant := both(g.own, audiences)
	if len(meant) == 0 {
		return nil, ErrNotMine
	}
	found, err := g.Bearer.Check(ctx, token, audiences)
	if err != nil {
		return nil, err
	}
	found.Audiences = meant
	return found, nil
}

// both are the members of a that are in b too.
func both(a, b []string) []string {
	var out []string
	for _, s := range a {
		for _, t := range b {
			if s == t {
				out = append(out, s)
				break
			}
		}
	}
	return out
}
