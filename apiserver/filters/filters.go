// Package filters is what happens to every request before it is routed: HTTP in, HTTP out, nothing else. A file each; the
// order is the list in server/chain.go.
package filters

import (
	"net/http"

	"go.uber.org/zap"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/flowcontrol"
)

// Filter wraps a handler.
type Filter func(http.Handler) http.Handler

// Parts are what filters ask.
type Parts struct {
	Who     *authn.Authenticator
	May     *authz.Authorizer
	Audit   *audit.Trail // nil: nothing is recorded
	Metrics *Metrics
	Log     *zap.Logger
	// Flow is the gate of requests, Limits what counts instead of it; without either, all get in.
	Flow   *flowcontrol.Gate
	Limits *flowcontrol.Limits
}
