// Package authz says what a caller may do. system:masters may do everything, each daemon's identity what its work needs, and
// anybody the few paths that tell health and version; nobody else gets in. The daemons' rules are the table in daemons.go.
package authz

import (
	"fmt"
	"slices"
	"strings"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/request"
)

// Masters is the group that may do everything.
const Masters = "system:masters"

// Authorizer decides. Safe for concurrent use.
type Authorizer struct{}

// New makes an authorizer.
func New() *Authorizer { return &Authorizer{} }

// Allow says whether u may do what i says; when not, why is for the client.
func (a *Authorizer) Allow(u *request.User, i *request.Info) (ok bool, why string) {
	if u.InGroup(Masters) {
		return true, ""
	}
	if !i.IsResource {
		if i.Verb == "get" || i.Verb == "head" {
			if under(i.Path, openPaths) || u.InGroup(authn.Authenticated) && under(i.Path, discoveryPaths) {
				return true, ""
			}
		}
	} else if slices.ContainsFunc(daemons, func(d daemon) bool { return d.is(u) && d.may(i) }) {
		return true, ""
	}
	return false, explain(u, i)
}

var (
	openPaths      = []string{"/healthz", "/livez", "/readyz", "/version"}
	discoveryPaths = []string{"/api", "/apis", "/openapi"}
)

func under(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

// explain words a refusal as users of Kubernetes know it.
func explain(u *request.User, i *request.Info) string {
	if !i.IsResource {
		return fmt.Sprintf("User %q cannot %s path %q", u.Name, i.Verb, i.Path)
	}
	resource := i.Resource
	if i.Subresource != "" {
		resource += "/" + i.Subresource
	}
	where := "at the cluster scope"
	if i.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", i.Namespace)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", u.Name, i.Verb, resource, i.Group, where)
}
