package authz

import (
	"context"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/request"
)

// paths are the rules on what is no resource: everything under a path may be read by a group.
type paths struct{}

type pathRule struct {
	group string // empty: anybody
	under []string
}

// The same as the discovery roles of https://kubernetes.io/docs/reference/access-authn-authz/rbac/#discovery-roles.
var pathRules = []pathRule{
	{"", []string{"/healthz", "/livez", "/readyz", "/version"}},
	{authn.Authenticated, []string{"/api", "/apis", "/openapi"}},
	{"system:serviceaccounts", []string{"/.well-known/openid-configuration", authn.KeysPath}},
}

func (r pathRule) is(u *request.User) bool { return r.group == "" || u.InGroup(r.group) }

func (paths) Decide(_ context.Context, u *request.User, i *request.Info) (Decision, string, error) {
	if i.IsResource || i.Verb != "get" && i.Verb != "head" {
		return NoOpinion, "", nil
	}
	if slices.ContainsFunc(pathRules, func(r pathRule) bool { return r.is(u) && under(i.Path, r.under) }) {
		return Allowed, "", nil
	}
	return NoOpinion, "", nil
}

func (paths) Rules(_ context.Context, u *request.User, _ string) (Rules, error) {
	var out Rules
	for _, r := range pathRules {
		if !r.is(u) {
			continue
		}
		var urls []string
		for _, p := range r.under {
			urls = append(urls, p, p+"/*")
		}
		out.NonResources = append(out.NonResources, authorizationv1.NonResourceRule{Verbs: []string{"get"}, NonResourceURLs: urls})
	}
	return out, nil
}

func under(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}
