// Package authn says who a caller is. Today that is the client certificate (CommonName is the user, Organizations are the
// groups), verified once a connection by TLS; further proofs join the union here. Who cannot be told is system:anonymous.
package authn

import (
	"net/http"

	"pilothouse.dev/apiserver/request"
)

// Names of callers as Kubernetes users know them.
const (
	Anonymous       = "system:anonymous"
	Unauthenticated = "system:unauthenticated"
	Authenticated   = "system:authenticated"
)

// Authenticator tells callers. Safe for concurrent use.
type Authenticator struct{}

// New makes an authenticator.
func New() *Authenticator { return &Authenticator{} }

// User returns the caller, or an error when a proof was given that is not valid: the request is then refused, never let
// through as anonymous.
func (a *Authenticator) User(r *http.Request) (*request.User, error) {
	if r.Header.Get("Authorization") != "" {
		return nil, errCredentials
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		subject := r.TLS.VerifiedChains[0][0].Subject
		groups := make([]string, 0, len(subject.Organization)+1)
		groups = append(append(groups, subject.Organization...), Authenticated)
		return &request.User{Name: subject.CommonName, Groups: groups}, nil
	}
	return anonymous, nil
}

var anonymous = &request.User{Name: Anonymous, Groups: []string{Unauthenticated}}
