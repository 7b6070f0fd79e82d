package bootstrap_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/pkg/testcluster"
)

// must is for calls that the test makes itself: must(call())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func restart(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	c.KillAPIServer()
	if err := c.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
}

// versions are the resource versions of all roles and bindings: nothing was written if they stay the same.
func versions(t *testing.T, kube kubernetes.Interface) map[string]string {
	t.Helper()
	out := map[string]string{}
	list, rbac := metav1.ListOptions{}, kube.RbacV1()
	for _, o := range must(rbac.ClusterRoles().List(t.Context(), list))(t).Items {
		out["ClusterRole "+o.Name] = o.ResourceVersion
	}
	for _, o := range must(rbac.ClusterRoleBindings().List(t.Context(), list))(t).Items {
		out["ClusterRoleBinding "+o.Name] = o.ResourceVersion
	}
	for _, o := range must(rbac.Roles("").List(t.Context(), list))(t).Items {
		out["Role "+o.Namespace+"/"+o.Name] = o.ResourceVersion
	}
	for _, o := range must(rbac.RoleBindings("").List(t.Context(), list))(t).Items {
		out["RoleBinding "+o.Namespace+"/"+o.Name] = o.ResourceVersion
	}
	return out
}

// changed are the keys whose values differ, in order.
func changed(before, after map[string]string) string {
	var keys []string
	for k, v := range after {
		if before[k] != v {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}

func allows(rules []rbacv1.PolicyRule, verb, resource string) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.Verbs, verb) && slices.Contains(r.Resources, resource)
	})
}

// TestDefaultRoles starts a server again and again over what somebody has done to the default roles meanwhile.
func TestDefaultRoles(t *testing.T) {
	c := testcluster.Start(t)
	ctx, rbac := t.Context(), c.Kube.RbacV1()
	get, update := metav1.GetOptions{}, metav1.UpdateOptions{}

	verbose := must(c.Kube.CoreV1().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").DoRaw(ctx))(t)
	if !strings.Contains(string(verbose), "[+]poststarthook/rbac/bootstrap-roles ok") {
		t.Errorf("readiness does not tell of the roles:\n%s", verbose)
	}
	edit := must(rbac.ClusterRoles().Get(ctx, "edit", get))(t)
	if !allows(edit.Rules, "create", "pods") || !allows(edit.Rules, "get", "pods/log") || allows(edit.Rules, "create", "roles") {
		t.Errorf("edit is not the union of what it consists of: %v", edit.Rules)
	}
	if admin := must(rbac.ClusterRoles().Get(ctx, "admin", get))(t); !allows(admin.Rules, "create", "roles") || !allows(admin.Rules, "create", "pods") {
		t.Errorf("admin is not the union of what it consists of: %v", admin.Rules)
	}

	// Nothing has happened, nothing is written.
	before := versions(t, c.Kube)
	restart(t, c)
	if s := changed(before, versions(t, c.Kube)); s != "" {
		t.Errorf("written without need: %s", s)
	}

	// What is missing comes back, what was added stays, and what is protected is left alone.
	proxier := must(rbac.ClusterRoles().Get(ctx, "system:node-proxier", get))(t)
	extra := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"configmaps"}}
	proxier.Rules = append(proxier.Rules[1:], extra)
	delete(proxier.Labels, "kubernetes.io/bootstrapping")
	must(rbac.ClusterRoles().Update(ctx, proxier, update))(t)
	binding := must(rbac.ClusterRoleBindings().Get(ctx, "system:node-proxier", get))(t)
	binding.Subjects = []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "joe"}}
	must(rbac.ClusterRoleBindings().Update(ctx, binding, update))(t)
	basic := must(rbac.ClusterRoles().Get(ctx, "system:basic-user", get))(t)
	basic.Annotations[rbacv1.AutoUpdateAnnotationKey] = "false"
	basic.Rules = nil
	must(rbac.ClusterRoles().Update(ctx, basic, update))(t)
	if err := rbac.RoleBindings("kube-public").Delete(ctx, "system:controller:bootstrap-signer", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	must(rbac.RoleBindings("kube-public").Create(ctx, &rbacv1.RoleBinding{ // to another role
		ObjectMeta: metav1.ObjectMeta{Name: "system:controller:bootstrap-signer"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "joe"}},
	}, metav1.CreateOptions{}))(t)
	if err := rbac.Roles("kube-system").Delete(ctx, "system:controller:token-cleaner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// A part of edit that is gone is no part of it when edit is made anew, though the table has it.
	part := must(rbac.ClusterRoles().Get(ctx, "system:aggregate-to-edit", get))(t)
	part.Annotations[rbacv1.AutoUpdateAnnotationKey] = "false"
	part.Rules = part.Rules[:1]
	must(rbac.ClusterRoles().Update(ctx, part, update))(t)
	must(rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "mine", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-edit": "true"}},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{"example.com"}, Resources: []string{"widgets"}}},
	}, metav1.CreateOptions{}))(t)
	if err := rbac.ClusterRoles().Delete(ctx, "edit", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	before = versions(t, c.Kube)
	restart(t, c)
	if got, want := changed(before, versions(t, c.Kube)), "ClusterRole edit, ClusterRole system:node-proxier, ClusterRoleBinding system:node-proxier, "+
		"Role kube-system/system:controller:token-cleaner, RoleBinding kube-public/system:controller:bootstrap-signer"; got != want {
		t.Errorf("written: %s\nwant: %s", got, want)
	}
	proxier = must(rbac.ClusterRoles().Get(ctx, "system:node-proxier", get))(t)
	if !allows(proxier.Rules, "list", "services") || !allows(proxier.Rules, "get", "configmaps") || proxier.Labels["kubernetes.io/bootstrapping"] == "" {
		t.Errorf("system:node-proxier: %v %v", proxier.Labels, proxier.Rules)
	}
	binding = must(rbac.ClusterRoleBindings().Get(ctx, "system:node-proxier", get))(t)
	var names []string
	for _, s := range binding.Subjects {
		names = append(names, s.Name)
	}
	if slices.SortFunc(names, cmp.Compare[string]); !slices.Equal(names, []string{"joe", "system:kube-proxy"}) {
		t.Errorf("system:node-proxier is bound to %v", names)
	}
	if basic = must(rbac.ClusterRoles().Get(ctx, "system:basic-user", get))(t); len(basic.Rules) != 0 {
		t.Errorf("a protected role was changed: %v", basic.Rules)
	}
	signer := must(rbac.RoleBindings("kube-public").Get(ctx, "system:controller:bootstrap-signer", get))(t)
	if signer.RoleRef.Kind != "Role" || len(signer.Subjects) != 1 || signer.Subjects[0].Name != "bootstrap-signer" {
		t.Errorf("a binding to another role: %v %v", signer.RoleRef, signer.Subjects)
	}
	edit = must(rbac.ClusterRoles().Get(ctx, "edit", get))(t)
	if !allows(edit.Rules, "get", "widgets") || !allows(edit.Rules, "get", "secrets") || allows(edit.Rules, "create", "pods") {
		t.Errorf("edit, made anew: %v", edit.Rules)
	}

	// What the roles say is what is done.
	robot := must(kubernetes.NewForConfig(c.Config("system:kube-proxy")))(t)
	if _, err := robot.CoreV1().Services("").List(ctx, metav1.ListOptions{}); err != nil {
		t.Errorf("kube-proxy: %v", err)
	}
	if _, err := robot.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("kube-proxy reads secrets: %v", err)
	}
}
