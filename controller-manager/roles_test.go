package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// TestAggregation labels a role as a part of edit, and takes the label away: edit follows, and admin, of which edit is a part.
func TestAggregation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, roles := t.Context(), w.kube.RbacV1().ClusterRoles()
	const label = "rbac.authorization.k8s.io/aggregate-to-edit"
	must(roles.Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "widget-editor", Labels: map[string]string{label: "true"}},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"patch"}, APIGroups: []string{"example.com"}, Resources: []string{"widgets"}}},
	}, metav1.CreateOptions{}))(w)
	has := func(name string, want bool) {
		t.Helper()
		w.until(fmt.Sprintf("%s to have the rule: %v", name, want), func() error {
			r, err := roles.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if slices.ContainsFunc(r.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "widgets") }) != want {
				return errors.New("not yet")
			}
			return nil
		})
	}
	has("edit", true)
	has("admin", true)
	has("view", false)
	// The server decides by it.
	must(w.kube.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "jane"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "jane"}},
	}, metav1.CreateOptions{}))(w)
	may := func(want bool) {
		t.Helper()
		w.until(fmt.Sprintf("jane to edit widgets: %v", want), func() error {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "jane", ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "default", Verb: "patch", Group: "example.com", Resource: "widgets"},
			}}
			if must(w.kube.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{}))(w).Status.Allowed != want {
				return errors.New("not yet")
			}
			return nil
		})
	}
	may(true)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		r := must(roles.Get(ctx, "widget-editor", metav1.GetOptions{}))(w)
		delete(r.Labels, label)
		_, err := roles.Update(ctx, r, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	has("edit", false)
	has("admin", false)
	may(false)
}

// TestOwnAccounts looks whether each controller has the account of its line, and that the manager has not their rights.
func TestOwnAccounts(t *testing.T) {
	w := newWorld(t)
	for _, l := range controllers(Config{}) {
		if l.Account == "" || l.Off {
			continue
		}
		w.until("the account of "+l.Name, func() error {
			_, err := w.kube.CoreV1().ServiceAccounts("kube-system").Get(t.Context(), l.Account, metav1.GetOptions{})
			return err
		})
	}
	allowed := func(user, verb, group, resource string) bool {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "default", Verb: verb, Group: group, Resource: resource},
		}}
		return must(w.kube.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{}))(w).Status.Allowed
	}
	const account = "system:serviceaccount:kube-system:"
	for _, c := range []struct {
		user, verb, group, resource string
		want                        bool
	}{
		{account + "deployment-controller", "create", "apps", "replicasets", true},
		{account + "deployment-controller", "create", "", "pods", false},
		{account + "replicaset-controller", "create", "", "pods", true},
		{"system:kube-controller-manager", "create", "", "pods", false},
		{"system:kube-controller-manager", "create", "apps", "replicasets", false},
	} {
		if got := allowed(c.user, c.verb, c.group, c.resource); got != c.want {
			t.Errorf("may %s %s %s? %v", c.user, c.verb, c.resource, got)
		}
	}
}
