package policy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/authz/node"
	"pilothouse.dev/apiserver/authz/rbac"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/pkg/roles"
)

// feed tells its objects once.
type feed struct {
	entries []*storage.Entry
	told    bool
}

func feedOf[T codec.Object](t *testing.T, objects []T) *feed {
	f := &feed{}
	for _, o := range objects {
		value, err := codec.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		f.entries = append(f.entries, &storage.Entry{Key: storage.Key{Namespace: o.GetNamespace(), Name: o.GetName()}, Revision: 1, Value: value})
	}
	return f
}

func (f *feed) Behind() bool { return !f.told }

func (f *feed) Newest(context.Context) error { return nil }

func (f *feed) Pull(_ context.Context, reset func(), each func(storage.Event)) error {
	f.told = true
	reset()
	for _, e := range f.entries {
		each(storage.Event{Type: storage.Added, Entry: e})
	}
	return nil
}

// cluster is the authorizer of a cluster with the default roles, a few people bound to them, and a pod on a node.
func cluster(t *testing.T) *authz.Authorizer {
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.ClusterRoles { // parts stand before the whole
		if r.AggregationRule != nil {
			if r.Rules, err = roles.Union(r, p.ClusterRoles); err != nil {
				t.Fatal(err)
			}
		}
	}
	subject := func(kind, name string) []rbacv1.Subject {
		return []rbacv1.Subject{{Kind: kind, APIGroup: rbacv1.GroupName, Name: name}}
	}
	ref := func(role string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	}
	for user, role := range map[string]string{"viewer": "view", "editor": "edit", "owner": "admin"} {
		p.RoleBindings = append(p.RoleBindings, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: user}, RoleRef: ref(role), Subjects: subject("User", user),
		})
	}
	for _, b := range []struct{ kind, name, role string }{
		{"Group", "kubeadm:cluster-admins", "cluster-admin"}, {"User", "auditor", "view"},
		{"User", "kube-apiserver-kubelet-client", "system:kubelet-api-admin"},
		{"Group", "system:bootstrappers:welcome", "system:node-bootstrapper"},
	} {
		p.ClusterRoleBindings = append(p.ClusterRoleBindings, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "test:" + b.name}, RoleRef: ref(b.role), Subjects: subject(b.kind, b.name),
		})
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "p", UID: "1"},
		Spec: corev1.PodSpec{NodeName: "n1", ServiceAccountName: "default", Volumes: []corev1.Volume{
			{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
			{Name: "m", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}}},
		}},
	}
	none := func() *feed { return &feed{} }
	healthy, err := authz.NewPaths([]string{"/healthz", "/readyz", "/livez"})
	if err != nil {
		t.Fatal(err)
	}
	nodes := node.New(node.Feeds{Pods: feedOf(t, []*corev1.Pod{pod}), Volumes: none(), Attachments: none(), Slices: none()}, zap.NewNop())
	once, stop := context.WithCancel(t.Context())
	stop()
	if err := errors.Join(nodes.Run(once), nodes.Ready()); err != nil { // reads what there is, and ends
		t.Fatal(err)
	}
	return authz.New(healthy, nodes,
		rbac.New(rbac.Feeds{
			Roles: feedOf(t, p.Roles), ClusterRoles: feedOf(t, p.ClusterRoles),
			RoleBindings: feedOf(t, p.RoleBindings), ClusterRoleBindings: feedOf(t, p.ClusterRoleBindings),
		}))
}

// who is who in the questions.
func who(t *testing.T, name string) *request.User {
	user := func(name string, groups ...string) *request.User {
		return &request.User{Name: name, Groups: append(groups, authn.Authenticated)}
	}
	account := func(namespace, name string) *request.User {
		return user("system:serviceaccount:"+namespace+":"+name, "system:serviceaccounts", "system:serviceaccounts:"+namespace)
	}
	if name, ok := strings.CutPrefix(name, "account "); ok {
		return account("kube-system", name)
	}
	if name, ok := strings.CutPrefix(name, "account-elsewhere "); ok {
		return account("team", name)
	}
	u := map[string]*request.User{
		"anonymous": {Name: authn.Anonymous, Groups: []string{authn.Unauthenticated}},
		"somebody":  user("jane"), "robot": account("team", "default"),
		"master": user("super-admin", authz.Masters), "root": user("admin", "kubeadm:cluster-admins"),
		"viewer": user("viewer"), "editor": user("editor"), "owner": user("owner"), "auditor": user("auditor"),
		"scheduler": user("system:kube-scheduler"), "manager": user("system:kube-controller-manager"), "proxy": user("system:kube-proxy"),
		"kubelet": user("system:node:n1", "system:nodes"), "nodename": user("system:node:n1"), "nodegroup": user("jane", "system:nodes"),
		"kubelets-client": user("kube-apiserver-kubelet-client"), "monitor": user("prometheus", "system:monitoring"),
		"joiner":   user("system:bootstrap:abcdef", "system:bootstrappers"),
		"welcomed": user("system:bootstrap:abcdef", "system:bootstrappers", "system:bootstrappers:welcome"),
	}[name]
	if u == nil {
		t.Fatalf("nobody is called %q", name)
	}
	return u
}

// TestQuestions asks what testdata/questions.tsv asks.
func TestQuestions(t *testing.T) {
	may := cluster(t)
	f, err := os.Open("testdata/questions.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	asked := 0
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if lines.Text() == "" || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		cells := strings.Split(lines.Text(), "\t")
		if len(cells) != 7 || cells[0] != "yes" && cells[0] != "no" {
			t.Fatalf("line %d: want a verdict and six more cells", n)
		}
		for i := range cells {
			if cells[i] == "-" {
				cells[i] = ""
			}
		}
		u := who(t, cells[1])
		for _, verb := range strings.Split(cells[2], ",") {
			for _, what := range strings.Split(cells[4], ",") {
				asked++
				i := &request.Info{Verb: verb, Path: what}
				if cells[3] != "path" {
					resource, sub, _ := strings.Cut(what, "/")
					i = &request.Info{IsResource: true, Verb: verb, Version: "v1", Resource: resource, Subresource: sub, Namespace: cells[5], Name: cells[6]}
					if cells[3] != "core" {
						i.Group = cells[3]
					}
				}
				if v := may.Decide(t.Context(), u, i); (v.Decision == authz.Allowed) != (cells[0] == "yes") {
					t.Errorf("line %d: may %s %s %s %s in %q %q? want %s, got %v %q, %v", n, cells[1], verb, cells[3], what, cells[5], cells[6], cells[0], v.Decision, v.Reason, v.Err)
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if asked < 500 {
		t.Errorf("only %d questions", asked)
	}
}

// TestPolicy checks what holds of all defaults.
func TestPolicy(t *testing.T) {
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range p.ClusterRoles {
		if known["ClusterRole "+r.Name] {
			t.Errorf("there are two cluster roles %s", r.Name)
		}
		known["ClusterRole "+r.Name] = true
		marked(t, "ClusterRole", r)
		if (len(r.Rules) == 0) != (r.AggregationRule != nil) {
			t.Errorf("%s has %d rules, aggregated: %v", r.Name, len(r.Rules), r.AggregationRule != nil)
		}
		mayAll := slices.ContainsFunc(r.Rules, func(rule rbacv1.PolicyRule) bool {
			return slices.Contains(rule.Verbs, "*") && (slices.Contains(rule.Resources, "*") || slices.Contains(rule.NonResourceURLs, "*"))
		})
		if mayAll != (r.Name == "cluster-admin") {
			t.Errorf("%s: that it may do everything is %v", r.Name, mayAll)
		}
	}
	for _, r := range p.Roles {
		known["Role "+r.Namespace+"/"+r.Name] = true
		marked(t, "Role", r)
	}
	for _, b := range p.ClusterRoleBindings {
		marked(t, "ClusterRoleBinding", b)
		if !known["ClusterRole "+b.RoleRef.Name] {
			t.Errorf("%s binds a role that is not there", b.Name)
		}
	}
	for _, b := range p.RoleBindings {
		marked(t, "RoleBinding", b)
		if !known["Role "+b.Namespace+"/"+b.RoleRef.Name] {
			t.Errorf("%s/%s binds a role that is not there", b.Namespace, b.Name)
		}
	}
}

func marked(t *testing.T, kind string, o metav1.Object) {
	if o.GetLabels()["kubernetes.io/bootstrapping"] != "rbac-defaults" || o.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] != "true" {
		t.Errorf("%s %s is not marked as a default", kind, o.GetName())
	}
}

func TestBrokenTables(t *testing.T) {
	for text, want := range map[string]string{
		"    read core pods":                                   "line 1: a rule of nothing",
		"clusterrole a\n    read core":                         `line 2: "read core" is no rule`,
		"role a":                                               `line 1: "role a" defines nothing`,
		"clusterrole a to=b":                                   `line 1: "to=b" means nothing`,
		"clusterrole a\n\n    bind friend joe":                 `line 3: "friend joe" binds nobody`,
		"clusterrole a\n    bind account joe":                  `line 2: "account joe" binds nobody`,
		"# a comment\nclusterrole a\n  read core a b too many": `line 3: "read core a b too many" is no rule`,
	} {
		if err := (&Policy{}).read(text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	p := &Policy{}
	if err := p.read("role ns r\n    named b\n    bind account ns/a\n    read,bind core,apps x n1,n2"); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintln(p.Roles[0].Rules, p.RoleBindings[0].Name, p.RoleBindings[0].Subjects), "[{[bind get list watch] [ apps] [x] [n1 n2] []}] b [{ServiceAccount  a ns}]\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
