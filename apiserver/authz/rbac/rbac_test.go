package rbac

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/authz/authztest"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

type world struct {
	*Engine
	roles, clusterRoles, bindings, clusterBindings *authztest.Feed
}

func newWorld(t testing.TB) *world {
	f := func() *authztest.Feed { return authztest.NewFeed(t) }
	w := &world{roles: f(), clusterRoles: f(), bindings: f(), clusterBindings: f()}
	w.Engine = New(Feeds{Roles: w.roles, ClusterRoles: w.clusterRoles, RoleBindings: w.bindings, ClusterRoleBindings: w.clusterBindings})
	return w
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func rule(verbs, group, resources string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Split(verbs, ","), APIGroups: []string{group}, Resources: strings.Split(resources, ","), ResourceNames: names}
}

// role makes a cluster role when namespace is empty.
func (w *world) role(namespace, name string, rules ...rbacv1.PolicyRule) {
	if namespace == "" {
		w.clusterRoles.Put(&rbacv1.ClusterRole{ObjectMeta: meta("", name), Rules: rules})
		return
	}
	w.roles.Put(&rbacv1.Role{ObjectMeta: meta(namespace, name), Rules: rules})
}

// bind binds a role («Role x») to subjects: «User jane», «Group devs», «ServiceAccount a/bot».
func (w *world) bind(namespace, name, role string, subjects ...string) {
	kind, of, _ := strings.Cut(role, " ")
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: of}
	var all []rbacv1.Subject
	for _, s := range subjects {
		kind, name, _ := strings.Cut(s, " ")
		one := rbacv1.Subject{Kind: kind, Name: name}
		if ns, name, ok := strings.Cut(name, "/"); ok {
			one.Namespace, one.Name = ns, name
		}
		all = append(all, one)
	}
	if namespace == "" {
		w.clusterBindings.Put(&rbacv1.ClusterRoleBinding{ObjectMeta: meta("", name), RoleRef: ref, Subjects: all})
		return
	}
	w.bindings.Put(&rbacv1.RoleBinding{ObjectMeta: meta(namespace, name), RoleRef: ref, Subjects: all})
}

func user(name string, groups ...string) *request.User {
	return &request.User{Name: name, Groups: append(groups, "system:authenticated")}
}

func ask(verb, group, resource, namespace string) *request.Info {
	resource, sub, _ := strings.Cut(resource, "/")
	return &request.Info{IsResource: true, Verb: verb, Group: group, Resource: resource, Subresource: sub, Namespace: namespace}
}

func TestDecide(t *testing.T) {
	w := newWorld(t)
	w.role("", "view", rule("get,list,watch", "", "pods,pods/log"), rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}})
	w.role("a", "edit", rule("update", "", "pods"))
	w.role("b", "edit", rule("delete", "", "pods"))
	w.bind("", "watchers", "ClusterRole view", "Group devs", "User eve")
	w.bind("a", "editors", "Role edit", "User jane", "ServiceAccount b/bot")
	w.bind("a", "viewers", "ClusterRole view", "User jane", "ServiceAccount homeless")
	w.bind("a", "nothing", "Role gone", "User jane")
	w.bind("", "nothing", "ClusterRole gone", "Group lost")
	w.bind("", "nothing-more", "ClusterRole away", "Group lost")
	w.bind("", "everybody", "ClusterRole view", "Group system:serviceaccounts:c")
	robot := user("system:serviceaccount:b:bot", "system:serviceaccounts", "system:serviceaccounts:b")
	path := &request.Info{Verb: "get", Path: "/metrics"}
	for _, c := range []struct {
		name string
		user *request.User
		info *request.Info
		ok   bool
		why  string
	}{
		{"a user, everywhere", user("eve"), ask("list", "", "pods", "x"), true, `RBAC: allowed by ClusterRoleBinding "watchers" of ClusterRole "view" to User "eve"`},
		{"at the cluster scope", user("eve"), ask("list", "", "pods", ""), true, `RBAC: allowed by ClusterRoleBinding "watchers" of ClusterRole "view" to User "eve"`},
		{"a group", user("joe", "devs"), ask("get", "", "pods/log", "x"), true, `RBAC: allowed by ClusterRoleBinding "watchers" of ClusterRole "view" to Group "devs"`},
		{"a path", user("eve"), path, true, `RBAC: allowed by ClusterRoleBinding "watchers" of ClusterRole "view" to User "eve"`},
		{"no right", user("eve"), ask("update", "", "pods", "a"), false, ""},
		{"a role of the namespace", robot, ask("update", "", "pods", "a"), true, `RBAC: allowed by RoleBinding "editors/a" of Role "edit" to ServiceAccount "bot/b"`},
		{"the role of that name elsewhere", robot, ask("delete", "", "pods", "b"), false, ""},
		{"not elsewhere", robot, ask("update", "", "pods", "b"), false, ""},
		{"not everywhere", robot, ask("update", "", "pods", ""), false, ""},
		{"a cluster role in a namespace", user("jane"), ask("get", "", "pods", "a"), true, `RBAC: allowed by RoleBinding "viewers/a" of ClusterRole "view" to User "jane"`},
		{"is not for another", user("jane"), ask("get", "", "pods", "b"), false, ""},
		{"nor for paths", user("jane"), path, false, ""},
		{"an account of the binding's namespace", user("system:serviceaccount:a:homeless"), ask("get", "", "pods", "a"), true,
			`RBAC: allowed by RoleBinding "viewers/a" of ClusterRole "view" to ServiceAccount "homeless/a"`},
		{"a user named like a group", user("devs"), ask("get", "", "pods", "a"), false, ""},
		{"a group named like a user", user("x", "eve"), ask("get", "", "pods", "a"), false, ""},
		{"a user named like an account", user("bot"), ask("update", "", "pods", "a"), false, ""},
		{"all accounts of a namespace", user("system:serviceaccount:c:x", "system:serviceaccounts:c"), ask("get", "", "pods", "a"), true,
			`RBAC: allowed by ClusterRoleBinding "everybody" of ClusterRole "view" to Group "system:serviceaccounts:c"`},
		{"a role that does not exist", user("jane"), ask("get", "", "secrets", "a"), false, `RBAC: role.rbac.authorization.k8s.io "gone" not found`},
		{"two of them", user("x", "lost"), ask("get", "", "secrets", "a"), false,
			`RBAC: [clusterrole.rbac.authorization.k8s.io "gone" not found, clusterrole.rbac.authorization.k8s.io "away" not found]`},
		{"nobody", &request.User{}, ask("get", "", "pods", "a"), false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, why, err := w.Decide(t.Context(), c.user, c.info)
			if (d == authz.Allowed) != c.ok || d == authz.Denied || why != c.why || err != nil {
				t.Errorf("got %v %q %v, want %v %q", d, why, err, c.ok, c.why)
			}
		})
	}
}

// TestChanges follows what changes: each change counts at once, and what was granted by what is gone is gone.
func TestChanges(t *testing.T) {
	w := newWorld(t)
	may := func(what string, want bool) {
		t.Helper()
		d, why, err := w.Decide(t.Context(), user("jane", "devs"), ask("get", "", "pods", "a"))
		if (d == authz.Allowed) != want || err != nil {
			t.Fatalf("%s: got %v %q %v", what, d, why, err)
		}
	}
	may("nothing", false)
	w.bind("a", "one", "Role reader", "User jane")
	may("a binding of no role", false)
	w.role("a", "reader", rule("get", "", "pods"))
	may("the role comes", true)
	w.role("a", "reader", rule("get", "", "secrets"))
	may("it changes", false)
	w.role("a", "reader", rule("get", "", "pods"))
	may("it changes back", true)
	w.bind("a", "one", "Role reader", "User joe")
	may("another subject", false)
	w.bind("a", "two", "Role reader", "Group devs")
	w.bind("a", "one", "Role reader", "User jane", "User jane")
	may("two bindings", true)
	w.bindings.Drop("a", "one")
	may("one left", true)
	w.bindings.Drop("a", "two")
	may("none left", false)
	w.bind("a", "two", "Role reader", "Group devs")
	w.roles.Drop("a", "reader")
	may("the role goes", false)
	w.bindings.Drop("a", "two")
	w.role("", "reader", rule("get", "", "pods"))
	w.bind("", "all", "ClusterRole reader", "Group devs")
	may("everywhere", true)

	w.clusterBindings.Lost = true
	delete(w.clusterBindings.Have, storage.Key{Name: "all"})
	may("it went while history was lost", false)
	w.bind("", "all", "ClusterRole reader", "Group devs")
	w.clusterRoles.Lost = true
	may("the roles are read anew", true)

	x := w.index
	w.clusterBindings.Drop("", "all")
	w.clusterRoles.Drop("", "reader")
	may("all gone", false)
	if len(x.roles)+len(x.bindings)+len(x.local)+len(x.cluster.users)+len(x.cluster.groups) > 0 {
		t.Errorf("something is left: %+v", x)
	}

	w.clusterRoles.Fail = errors.New("the cache is away")
	if d, _, err := w.Decide(t.Context(), user("jane"), ask("get", "", "pods", "a")); d != authz.NoOpinion || err == nil {
		t.Errorf("with a kind that cannot be read: %v %v", d, err)
	}
}

func TestRules(t *testing.T) {
	w := newWorld(t)
	w.role("", "view", rule("get", "", "pods"), rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}})
	w.role("a", "one", rule("get", "", "pods"), rule("update", "", "configmaps", "settings"))
	w.bind("a", "one", "Role one", "User jane", "User joe")
	w.bind("a", "view", "ClusterRole view", "User jane")
	w.bind("", "view", "ClusterRole view", "User joe")
	w.bind("a", "lost", "Role gone", "Group lost")
	for _, c := range []struct {
		name      string
		user      *request.User
		namespace string
		want      string
		err       string
	}{
		{"paths are of no namespace", user("jane"), "a", "get pods, update configmaps settings", ""},
		{"elsewhere", user("jane"), "b", "", ""},
		{"the same twice is told once", user("joe"), "a", "get pods, update configmaps settings, get /metrics", ""},
		{"cluster-wide", user("joe"), "b", "get pods, get /metrics", ""},
		{"of a role that is gone", user("x", "lost"), "a", "", `role.rbac.authorization.k8s.io "gone" not found`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := w.Rules(t.Context(), c.user, c.namespace)
			var got []string
			for _, x := range r.Resources {
				got = append(got, strings.Join(append(append(x.Verbs, x.Resources...), x.ResourceNames...), " "))
			}
			for _, x := range r.NonResources {
				got = append(got, strings.Join(append(x.Verbs, x.NonResourceURLs...), " "))
			}
			said := ""
			if err != nil {
				said = err.Error()
			}
			if strings.Join(got, ", ") != c.want || said != c.err || r.Incomplete {
				t.Errorf("got %q, %q, want %q", got, said, c.want)
			}
		})
	}
}

func TestConfirm(t *testing.T) {
	w := newWorld(t)
	w.role("", "all", rule("*", "*", "*"))
	w.role("", "view", rule("get,list", "", "pods"))
	w.bind("", "all", "ClusterRole all", "User root")
	w.bind("a", "view", "ClusterRole view", "User jane")
	w.bind("a", "lost", "Role gone", "User jane")
	if err := w.Confirm(t.Context(), user("root"), "", []rbacv1.PolicyRule{rule("*", "*", "*")}); err != nil {
		t.Error(err)
	}
	if err := w.Confirm(t.Context(), user("jane"), "a", []rbacv1.PolicyRule{rule("get", "", "pods")}); err != nil {
		t.Error(err)
	}
	err := w.Confirm(t.Context(), user("jane", "devs"), "b", []rbacv1.PolicyRule{rule("get", "", "pods")})
	const want = "user \"jane\" (groups=[\"devs\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n" +
		`{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	err = w.Confirm(t.Context(), user("jane"), "a", []rbacv1.PolicyRule{rule("delete", "", "pods")})
	if err == nil || !strings.HasSuffix(err.Error(), `Verbs:["delete"]}; resolution errors: role.rbac.authorization.k8s.io "gone" not found`) {
		t.Errorf("got %v", err)
	}
	if r, err := w.RoleRules(t.Context(), "a", rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"}); err != nil || len(r) != 1 {
		t.Errorf("got %v %v", r, err)
	}
	if _, err := w.RoleRules(t.Context(), "a", rbacv1.RoleRef{Kind: "Role", Name: "view"}); !apierrors.IsNotFound(err) || err.Error() != `roles.rbac.authorization.k8s.io "view" not found` {
		t.Errorf("got %v", err)
	}
}

// TestConfirmNeedsTheNewest grants nothing by what may be old.
func TestConfirmNeedsTheNewest(t *testing.T) {
	w := newWorld(t)
	w.role("", "all", rule("*", "*", "*"))
	w.bind("", "all", "ClusterRole all", "User root")
	if err := w.Confirm(t.Context(), user("root"), "", []rbacv1.PolicyRule{rule("get", "", "pods")}); err != nil {
		t.Fatal(err)
	}
	w.roles.Fail = errors.New("etcd is away")
	if err := w.Confirm(t.Context(), user("root"), "", []rbacv1.PolicyRule{rule("get", "", "pods")}); err == nil || !strings.Contains(err.Error(), "etcd is away") {
		t.Errorf("got %v", err)
	}
	if _, err := w.RoleRules(t.Context(), "", rbacv1.RoleRef{Kind: "ClusterRole", Name: "all"}); err == nil || apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkDecide asks for a user with ten bindings among 2,000 in 500 namespaces.
func BenchmarkDecide(b *testing.B) {
	w := newWorld(b)
	fill(w, 2000)
	u, i := user("jane", "team-0", "team-1", "team-2"), ask("update", "apps", "deployments", "ns-7")
	b.Run("allowed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if d, _, _ := w.Decide(b.Context(), u, i); d != authz.Allowed {
				b.Fatal(d)
			}
		}
	})
	i = ask("update", "apps", "daemonsets", "ns-7")
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if d, _, _ := w.Decide(b.Context(), u, i); d != authz.NoOpinion {
				b.Fatal(d)
			}
		}
	})
}

// BenchmarkChange changes one of 10,000 bindings and decides.
func BenchmarkChange(b *testing.B) {
	w := newWorld(b)
	fill(w, 10000)
	u, i := user("jane"), ask("update", "apps", "deployments", "ns-7")
	_, _, _ = w.Decide(b.Context(), u, i)
	b.ReportAllocs()
	for b.Loop() {
		w.bind("ns-7", "change", "ClusterRole edit-3", "User joe")
		if d, _, _ := w.Decide(b.Context(), u, i); d != authz.Allowed {
			b.Fatal(d)
		}
	}
}

// fill makes bindings in 500 namespaces, to roles like those every cluster has; jane has ten cluster-wide and in ns-7.
func fill(w *world, n int) {
	for r := range 8 {
		var rules []rbacv1.PolicyRule
		for k := range 30 {
			rules = append(rules, rule("get,list,watch,create,update,patch,delete", fmt.Sprint("group-", k), "things,things/status,others,more,and/more"))
		}
		if r == 7 {
			rules = append(rules, rule("get,update", "apps", "deployments"))
		}
		w.role("", fmt.Sprint("edit-", r), rules...)
	}
	for k := range n {
		w.bind(fmt.Sprint("ns-", k%500), fmt.Sprint("b-", k), fmt.Sprint("ClusterRole edit-", k%8), fmt.Sprint("User user-", k), "Group team")
	}
	for k := range 5 {
		w.bind("", fmt.Sprint("jane-", k), fmt.Sprint("ClusterRole edit-", k), "User jane")
		w.bind("ns-7", fmt.Sprint("jane-", k), fmt.Sprint("ClusterRole edit-", k+3), "User jane")
	}
}
