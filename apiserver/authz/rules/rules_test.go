package rules

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"pilothouse.dev/apiserver/request"
)

// on makes a rule of words: verbs, groups, resources, names, each separated by commas; - is the core group.
func on(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		Verbs: strings.Split(verbs, ","), APIGroups: strings.Split(strings.ReplaceAll(groups, "-", ""), ","),
		Resources: strings.Split(resources, ","), ResourceNames: names,
	}
}

func urls(verbs string, paths ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Split(verbs, ","), NonResourceURLs: paths}
}

func TestAllow(t *testing.T) {
	resource := func(verb, group, resource, sub, name string) *request.Info {
		return &request.Info{IsResource: true, Verb: verb, Group: group, Resource: resource, Subresource: sub, Name: name}
	}
	path := func(verb, p string) *request.Info { return &request.Info{Verb: verb, Path: p} }
	many := on("get", "-", "pods")
	for i := range 100 {
		many.APIGroups, many.Resources = append(many.APIGroups, fmt.Sprint("g", i)), append(many.Resources, fmt.Sprint("r", i))
	}
	for _, c := range []struct {
		name string
		rule rbacv1.PolicyRule
		info *request.Info
		want bool
	}{
		{"what it names", on("get,list", "-", "pods"), resource("list", "", "pods", "", ""), true},
		{"one object of them", on("get", "-", "pods"), resource("get", "", "pods", "", "p"), true},
		{"another verb", on("get,list", "-", "pods"), resource("watch", "", "pods", "", ""), false},
		{"another group", on("get", "-", "pods"), resource("get", "apps", "pods", "", ""), false},
		{"not its subresource", on("get", "-", "pods"), resource("get", "", "pods", "log", "p"), false},
		{"a subresource", on("get", "-", "pods/log"), resource("get", "", "pods", "log", "p"), true},
		{"not its parent", on("get", "-", "pods/log"), resource("get", "", "pods", "", "p"), false},
		{"in one word", on("get", "-", "pods/log"), resource("get", "", "pods/log", "", "p"), true},
		{"a subresource of any", on("update", "*", "*/scale"), resource("update", "apps", "deployments", "scale", "d"), true},
		{"of any, another", on("update", "*", "*/scale"), resource("update", "apps", "deployments", "status", "d"), false},
		{"of any, not the object", on("update", "*", "*/scale"), resource("update", "apps", "deployments", "", "d"), false},
		{"everything", on("*", "*", "*"), resource("impersonate", "x", "y", "z", "n"), true},
		{"everything is no path", on("*", "*", "*"), path("get", "/healthz"), false},
		{"any resource of a group", on("get", "apps", "*"), resource("get", "apps", "deployments", "status", "d"), true},
		{"and of no other", on("get", "apps", "*"), resource("get", "batch", "jobs", "", "d"), false},
		{"any group", on("get", "*", "pods"), resource("get", "metrics.k8s.io", "pods", "", ""), true},
		{"an asterisk after a slash is nothing special", on("get", "-", "pods/*"), resource("get", "", "pods", "log", "p"), false},
		{"a slash at the end is part of the name", on("get", "-", "pods/"), resource("get", "", "pods", "", "p"), false},
		{"any verb", on("*", "-", "pods"), resource("deletecollection", "", "pods", "", ""), true},
		{"an unusual verb", on("escalate,bind", "rbac.authorization.k8s.io", "roles"), resource("bind", "rbac.authorization.k8s.io", "roles", "", "r"), true},
		{"no verb", on("escalate", "-", "pods"), resource("", "", "pods", "", ""), false},
		{"the verb asterisk", on("get", "-", "pods"), resource("*", "", "pods", "", ""), false},
		{"a name", on("get", "-", "configmaps", "a", "b"), resource("get", "", "configmaps", "", "b"), true},
		{"another name", on("get", "-", "configmaps", "a", "b"), resource("get", "", "configmaps", "", "c"), false},
		{"names, asked for all", on("list", "-", "configmaps", "a"), resource("list", "", "configmaps", "", ""), false},
		{"names, asked for one", on("list", "-", "configmaps", "a"), resource("list", "", "configmaps", "", "a"), true},
		{"names, creating", on("create", "-", "configmaps", "a"), resource("create", "", "configmaps", "", ""), false},
		{"a name under an asterisk", on("*", "*", "*", "a"), resource("get", "", "secrets", "", "b"), false},
		{"a path", urls("get", "/healthz"), path("get", "/healthz"), true},
		{"below a path", urls("get", "/healthz"), path("get", "/healthz/etcd"), false},
		{"paths below", urls("get", "/healthz/*"), path("get", "/healthz/etcd"), true},
		{"not itself", urls("get", "/healthz/*"), path("get", "/healthz"), false},
		{"any path", urls("*", "*"), path("post", "/debug"), true},
		{"a path by another verb", urls("get", "*"), path("post", "/debug"), false},
		{"an asterisk within", urls("get", "/a/*/b"), path("get", "/a/x/b"), false},
		{"many pairs", many, resource("get", "g99", "r99", "", ""), true},
		{"not among many pairs", many, resource("get", "g99", "r100", "", ""), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := Ask(c.info)
			if got := Compile([]rbacv1.PolicyRule{on("get", "other", "things"), c.rule}).Allow(&q); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
	if n := len(Compile([]rbacv1.PolicyRule{many}).exact); n != 0 {
		t.Errorf("a rule of many pairs has %d of them in the table", n)
	}
}

func TestMissing(t *testing.T) {
	for _, c := range []struct {
		name         string
		held, wanted []rbacv1.PolicyRule
		want         []string
	}{
		{"nothing", nil, nil, nil},
		{"all held by one", []rbacv1.PolicyRule{on("get,list", "-,apps", "pods,deployments")}, []rbacv1.PolicyRule{on("get", "-", "pods")}, nil},
		{"held by several", []rbacv1.PolicyRule{on("get", "-", "pods"), on("list", "-", "pods")}, []rbacv1.PolicyRule{on("get,list", "-", "pods")}, nil},
		{"held by none", nil, []rbacv1.PolicyRule{on("get", "-", "pods")}, []string{`{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`}},
		{"partly held", []rbacv1.PolicyRule{on("get", "-", "pods")}, []rbacv1.PolicyRule{on("get,delete,list", "-", "pods,secrets")}, []string{
			`{APIGroups:[""], Resources:["pods"], Verbs:["delete" "list"]}`, `{APIGroups:[""], Resources:["secrets"], Verbs:["get" "delete" "list"]}`}},
		{"an asterisk holds all", []rbacv1.PolicyRule{on("*", "*", "*")}, []rbacv1.PolicyRule{on("x,*", "y,*", "z/w,*", "n")}, nil},
		{"all verbs do not hold an asterisk", []rbacv1.PolicyRule{on("get,list,watch", "-", "pods")}, []rbacv1.PolicyRule{on("*", "-", "pods")},
			[]string{`{APIGroups:[""], Resources:["pods"], Verbs:["*"]}`}},
		{"nor the groups", []rbacv1.PolicyRule{on("get", "-", "pods")}, []rbacv1.PolicyRule{on("get", "*", "pods")}, []string{`{APIGroups:["*"], Resources:["pods"], Verbs:["get"]}`}},
		{"nor the resources", []rbacv1.PolicyRule{on("get", "-", "pods")}, []rbacv1.PolicyRule{on("get", "-", "*")}, []string{`{APIGroups:[""], Resources:["*"], Verbs:["get"]}`}},
		{"a subresource of any", []rbacv1.PolicyRule{on("get", "-", "*/scale")}, []rbacv1.PolicyRule{on("get", "-", "pods/scale")}, nil},
		{"not its parent", []rbacv1.PolicyRule{on("get", "-", "pods")}, []rbacv1.PolicyRule{on("get", "-", "pods/exec")}, []string{`{APIGroups:[""], Resources:["pods/exec"], Verbs:["get"]}`}},
		{"a name does not hold all", []rbacv1.PolicyRule{on("get", "-", "secrets", "a")}, []rbacv1.PolicyRule{on("get", "-", "secrets")}, []string{`{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}`}},
		{"all hold a name", []rbacv1.PolicyRule{on("get", "-", "secrets")}, []rbacv1.PolicyRule{on("get", "-", "secrets", "a")}, nil},
		{"names by several", []rbacv1.PolicyRule{on("get", "-", "secrets", "a"), on("get", "-", "secrets", "b")}, []rbacv1.PolicyRule{on("get", "-", "secrets", "a", "b", "c")},
			[]string{`{APIGroups:[""], Resources:["secrets"], ResourceNames:["c"], Verbs:["get"]}`}},
		{"paths", []rbacv1.PolicyRule{urls("get", "/a/*")}, []rbacv1.PolicyRule{urls("get", "/a/b", "/a/b/*", "/c")}, []string{`{NonResourceURLs:["/c"], Verbs:["get"]}`}},
		{"any path", []rbacv1.PolicyRule{urls("get", "/a")}, []rbacv1.PolicyRule{urls("get", "*")}, []string{`{NonResourceURLs:["*"], Verbs:["get"]}`}},
		{"paths are not resources", []rbacv1.PolicyRule{on("*", "*", "*")}, []rbacv1.PolicyRule{urls("get", "/a")}, []string{`{NonResourceURLs:["/a"], Verbs:["get"]}`}},
		{"resources are not paths", []rbacv1.PolicyRule{urls("*", "*")}, []rbacv1.PolicyRule{on("get", "-", "pods")}, []string{`{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`}},
		{"twice", nil, []rbacv1.PolicyRule{on("get", "-", "pods"), on("get,list", "-", "pods")}, []string{`{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			missing, err := Missing(c.held, c.wanted)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range missing {
				got = append(got, Describe(&missing[i]))
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	huge := on("get", "-", "pods")
	for i := range 1000 {
		huge.Resources, huge.ResourceNames = append(huge.Resources, fmt.Sprint(i)), append(huge.ResourceNames, fmt.Sprint(i))
	}
	var many *ErrTooMany
	if _, err := Missing(nil, []rbacv1.PolicyRule{huge}); !errors.As(err, &many) {
		t.Errorf("a million rights: %v", err)
	}
}
