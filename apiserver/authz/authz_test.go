package authz

import (
	"context"
	"errors"
	"slices"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/request"
)

// more is a further source: one user may read maps, and what else is not known.
type more struct{}

func (more) Decide(_ context.Context, u *request.User, i *request.Info) (Decision, string, error) {
	if u.Name == "jane" && i.Verb == "get" && i.Resource == "configmaps" {
		return Allowed, "jane reads maps", nil
	}
	return NoOpinion, "", nil
}

func (more) Rules(_ context.Context, u *request.User, _ string) (Rules, error) {
	return Rules{Resources: []authorizationv1.ResourceRule{{Verbs: []string{"get"}, Resources: []string{"configmaps"}}}}, errors.New("half of it")
}

func somebody(name string, groups ...string) *request.User {
	return &request.User{Name: name, Groups: append(groups, authn.Authenticated)}
}

func TestAllow(t *testing.T) {
	nobody := &request.User{Name: authn.Anonymous, Groups: []string{authn.Unauthenticated}}
	resource := func(verb, group, plural, sub, ns string) *request.Info {
		return &request.Info{IsResource: true, Verb: verb, Group: group, Resource: plural, Subresource: sub, Namespace: ns}
	}
	path := func(verb, p string) *request.Info { return &request.Info{Verb: verb, Path: p} }
	robot := somebody("system:serviceaccount:a:b", "system:serviceaccounts", "system:serviceaccounts:a")
	node := somebody("system:node:n", "system:nodes")
	for _, c := range []struct {
		name string
		user *request.User
		info *request.Info
		ok   bool
	}{
		{"a master does all", somebody("root", Masters), resource("delete", "", "nodes", "", ""), true},
		{"on paths too", somebody("root", Masters), path("post", "/debug"), true},
		{"nobody reads health", nobody, path("get", "/readyz/etcd"), true},
		{"nobody writes it", nobody, path("post", "/readyz"), false},
		{"nobody discovers", nobody, path("get", "/apis"), false},
		{"somebody discovers", somebody("x"), path("get", "/apis/apps/v1"), true},
		{"not by a longer name", somebody("x"), path("get", "/apisother"), false},
		{"keys are for accounts", robot, path("get", "/openid/v1/jwks"), true},
		{"and their issuer", robot, path("get", "/.well-known/openid-configuration"), true},
		{"not for others", nobody, path("get", "/.well-known/openid-configuration"), false},
		{"somebody asks who he is", somebody("x"), resource("create", "authentication.k8s.io", "selfsubjectreviews", "", ""), true},
		{"somebody asks what he may", somebody("x"), resource("create", "authorization.k8s.io", "selfsubjectaccessreviews", "", ""), true},
		{"somebody asks of others", somebody("x"), resource("create", "authorization.k8s.io", "subjectaccessreviews", "", ""), false},
		{"nobody asks", nobody, resource("create", "authentication.k8s.io", "selfsubjectreviews", "", ""), false},
		{"a kubelet reviews tokens", node, resource("create", "authentication.k8s.io", "tokenreviews", "", ""), true},
		{"a kubelet wants a token", node, resource("create", "", "serviceaccounts", "token", "a"), true},
		{"a kubelet makes accounts", node, resource("create", "", "serviceaccounts", "", "a"), false},
		{"a lease where it belongs", node, resource("update", "coordination.k8s.io", "leases", "", "kube-node-lease"), true},
		{"a lease elsewhere", node, resource("update", "coordination.k8s.io", "leases", "", "kube-system"), false},
		{"another source", somebody("jane"), resource("get", "", "configmaps", "", "a"), true},
		{"no source", somebody("jane"), resource("list", "", "configmaps", "", "a"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if ok, why := New(more{}).Allow(t.Context(), c.user, c.info); ok != c.ok || (why == "") != c.ok {
				t.Errorf("got %v %q", ok, why)
			}
		})
	}
	_, why := New().Allow(t.Context(), somebody("x"), resource("get", "apps", "deployments", "scale", "a"))
	if why != `User "x" cannot get resource "deployments/scale" in API group "apps" in the namespace "a"` {
		t.Error(why)
	}
}

func TestRules(t *testing.T) {
	has := func(r Rules, plural string) bool {
		return slices.ContainsFunc(r.Resources, func(r authorizationv1.ResourceRule) bool { return slices.Contains(r.Resources, plural) })
	}
	r, err := New().Rules(t.Context(), somebody("root", Masters), "a")
	if err != nil || !has(r, "*") || r.NonResources[0].NonResourceURLs[0] != "*" {
		t.Errorf("a master: %+v, %v", r, err)
	}
	if r, _ = New().Rules(t.Context(), somebody("system:node:n", "system:nodes"), "a"); !has(r, "pods") || has(r, "leases") {
		t.Errorf("a kubelet in a namespace: %+v", r)
	}
	if r, _ = New().Rules(t.Context(), somebody("system:node:n", "system:nodes"), "kube-node-lease"); !has(r, "leases") {
		t.Errorf("a kubelet where its lease is: %+v", r)
	}
	if r, err = New(more{}).Rules(t.Context(), somebody("jane"), "a"); err == nil || !has(r, "configmaps") || !has(r, "selfsubjectreviews") {
		t.Errorf("with a source that knows half: %+v, %v", r, err)
	}
}
