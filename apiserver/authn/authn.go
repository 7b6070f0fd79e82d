// Package authn says who a caller is: by the client certificate (CommonName is the user, Organizations are the groups), verified
// once a connection by TLS, or by a bearer token of a service account, which this package also issues. Further proofs join the
// union here. Who cannot be told is system:anonymous. No token is ever part of an error or a log line.
package authn

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"pilothouse.dev/apiserver/request"
)

// Names of callers as Kubernetes users know them.
const (
	Anonymous       = "system:anonymous"
	Unauthenticated = "system:unauthenticated"
	Authenticated   = "system:authenticated"
)

// ErrNotMine is what a Bearer says of a token that somebody else may know.
var ErrNotMine = errors.New("the token is of a kind that this server does not know")

// errCredentials is the answer to a credential that is no bearer token.
var errCredentials = errors.New("the Authorization header names a credential this server does not know: use a client certificate or a bearer token")

// Bearer tells whose a token is. Safe for concurrent use.
type Bearer interface {
	// Check returns the bearer of a token and those of the audiences that the token is for (no audiences: this server's own).
	// The error is ErrNotMine when another may know the token; else it says why the token is not valid.
	Check(ctx context.Context, token string, audiences []string) (*request.User, []string, error)
}

// Authenticator tells callers. Safe for concurrent use.
type Authenticator struct{ bearers []Bearer }

// New makes an authenticator that knows client certificates and the given tokens.
func New(bearers ...Bearer) *Authenticator { return &Authenticator{bearers} }

// User returns the caller, or an error when a proof was given that is not valid: the request is then refused, never let
// through as anonymous. A certificate says more than a token that comes with it.
func (a *Authenticator) User(r *http.Request) (*request.User, error) {
	user := anonymous
	if header := r.Header.Get("Authorization"); header != "" {
		token, ok := bearerOf(header)
		if !ok {
			return nil, errCredentials
		}
		var err error
		if user, _, err = a.Check(r.Context(), token, nil); err != nil {
			return nil, err
		}
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		subject := r.TLS.VerifiedChains[0][0].Subject
		groups := make([]string, 0, len(subject.Organization)+1)
		groups = append(append(groups, subject.Organization...), Authenticated)
		return &request.User{Name: subject.CommonName, Groups: groups}, nil
	}
	return user, nil
}

// Check asks each bearer in turn; see Bearer.
func (a *Authenticator) Check(ctx context.Context, token string, audiences []string) (*request.User, []string, error) {
	for _, b := range a.bearers {
		user, meant, err := b.Check(ctx, token, audiences)
		if !errors.Is(err, ErrNotMine) {
			return user, meant, err
		}
	}
	return nil, nil, ErrNotMine
}

// bearerOf takes the token out of a header (RFC 6750 section 2.1).
func bearerOf(header string) (string, bool) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "bearer") && token != ""
}

var anonymous = &request.User{Name: Anonymous, Groups: []string{Unauthenticated}}
