package authz

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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
	for _, c := range []struct {
		name string
		user *request.User
		info *request.Info
		ok   bool
	}{
		{"a master does all", somebody("root", Masters), resource("delete", "", "nodes", "", ""), true},
		{"on paths too", somebody("root", Masters), path("post", "/debug"), true},
		{"nobody reads health", nobody, path("get", "/readyz"), false},
		{"somebody discovers", somebody("x"), path("get", "/apis"), false},
		{"a daemon", somebody("system:kube-scheduler"), resource("list", "", "pods", "", ""), false},
		{"a group of the system's", somebody("system:node:n", "system:nodes"), resource("list", "", "nodes", "", ""), false},
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
	if r, err = New().Rules(t.Context(), somebody("system:kube-scheduler"), "kube-system"); err != nil || len(r.Resources)+len(r.NonResources) > 0 {
		t.Errorf("a scheduler without roles: %+v, %v", r, err)
	}
	if r, err = New(more{}).Rules(t.Context(), somebody("jane"), "a"); err == nil || !has(r, "configmaps") {
		t.Errorf("with a source that knows half: %+v, %v", r, err)
	}
}

func TestPaths(t *testing.T) {
	p, err := NewPaths([]string{"/healthz", "metrics/*", "/open*"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"/healthz": true, "/healthz/etcd": false, "/metrics/a": true, "/metrics": false, "/openapi/v2": true, "/": false, "/livez": false,
	} {
		if d, _, _ := p.Decide(t.Context(), somebody("x"), &request.Info{Verb: "post", Path: path}); (d == Allowed) != want {
			t.Errorf("%s: %v", path, d)
		}
	}
	if d, _, _ := p.Decide(t.Context(), somebody("x"), &request.Info{Verb: "get", Path: "/healthz", IsResource: true}); d != NoOpinion {
		t.Error("a resource is not a path")
	}
	for _, bad := range []string{"", "/", "/a/*/b"} {
		if _, err := NewPaths([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestUse replaces the sources and counts what they decide.
func TestUse(t *testing.T) {
	reg := prometheus.NewRegistry()
	a := NewCounted(NewMetrics(reg), []Named{{"Always", "deny", AlwaysDeny{}}})
	get := &request.Info{IsResource: true, Verb: "get", Resource: "things"}
	if v := a.Attempt(t.Context(), somebody("x"), get); v.Decision != NoOpinion || v.Reason != "Everything is forbidden." {
		t.Errorf("%+v", v)
	}
	a.Use([]Named{{"Always", "allow", AlwaysAllow{}}})
	if v := a.Attempt(t.Context(), somebody("x"), get); v.Decision != Allowed {
		t.Errorf("%+v", v)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP apiserver_authorization_decisions_total Decisions of an authorizer, by its type and name, that allowed or denied.
# TYPE apiserver_authorization_decisions_total counter
apiserver_authorization_decisions_total{decision="allowed",name="allow",type="Always"} 1
apiserver_authorization_decisions_total{decision="denied",name="allow",type="Always"} 0
apiserver_authorization_decisions_total{decision="allowed",name="deny",type="Always"} 0
apiserver_authorization_decisions_total{decision="denied",name="deny",type="Always"} 0
# HELP authorization_attempts_total Requests that were authorized, by result.
# TYPE authorization_attempts_total counter
authorization_attempts_total{result="allowed"} 1
authorization_attempts_total{result="denied"} 0
authorization_attempts_total{result="error"} 0
authorization_attempts_total{result="no-opinion"} 1
`)); err != nil {
		t.Error(err)
	}
}
