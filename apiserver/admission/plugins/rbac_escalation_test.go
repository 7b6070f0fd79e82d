package plugins

import (
	"context"
	"errors"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// holder holds get pods and nothing else, and is asked about role «known».
type holder struct{}

func (holder) Confirm(_ context.Context, _ *request.User, _ string, wanted []rbacv1.PolicyRule) error {
	for _, r := range wanted {
		if !slices.Equal(r.Verbs, []string{"get"}) || !slices.Equal(r.Resources, []string{"pods"}) {
			return errors.New("not held")
		}
	}
	return nil
}

func (holder) RoleRules(_ context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error) {
	switch {
	case ref.Name == "less":
		return []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}, nil
	case ref.Name == "more" && namespace == "a":
		return everything, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "roles"}, ref.Name)
}

// verbOn allows one verb on one object.
type verbOn struct{ verb, plural, namespace, name string }

func (v verbOn) Allow(_ context.Context, _ *request.User, i *request.Info) (bool, string) {
	return v == verbOn{i.Verb, i.Resource, i.Namespace, i.Name} && i.Group == rbacv1.GroupName, "no"
}

func TestRBACEscalation(t *testing.T) {
	roleKind, bindingKind := define[*rbacv1.Role](rbacv1.GroupName, "Role", "roles", true), define[*rbacv1.RoleBinding](rbacv1.GroupName, "RoleBinding", "rolebindings", true)
	clusterRoleKind := define[*rbacv1.ClusterRole](rbacv1.GroupName, "ClusterRole", "clusterroles", false)
	meta := metav1.ObjectMeta{Namespace: "a", Name: "r"}
	few := []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	much := &rbacv1.Role{ObjectMeta: meta, Rules: everything}
	collected := much.DeepCopy()
	collected.Finalizers, collected.OwnerReferences, collected.ResourceVersion = []string{"x"}, []metav1.OwnerReference{{Name: "o"}}, "7"
	labelled := much.DeepCopy()
	labelled.Labels = map[string]string{"a": "b"}
	aggregated := func(rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r"}, AggregationRule: &rbacv1.AggregationRule{}, Rules: rules}
	}
	binding := func(kind, role string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{Kind: kind, Name: role}}
	}
	for _, c := range []struct {
		name     string
		op       admission.Operation
		kind     *registry.Resource
		obj, old registry.Object
		may      verbOn
		groups   []string
		want     string // of the error; empty: none
	}{
		{name: "what is held", op: admission.Create, kind: roleKind, obj: &rbacv1.Role{ObjectMeta: meta, Rules: few}},
		{name: "more", op: admission.Create, kind: roleKind, obj: much, want: `roles.rbac.authorization.k8s.io "r" is forbidden: not held`},
		{name: "more, by a master", op: admission.Create, kind: roleKind, obj: much, groups: []string{masters}},
		{name: "becoming more", op: admission.Update, kind: roleKind, obj: much, old: &rbacv1.Role{ObjectMeta: meta, Rules: few}, want: `roles.rbac.authorization.k8s.io "r" is forbidden: not held`},
		{name: "a label of more", op: admission.Update, kind: roleKind, obj: labelled, old: much, want: `roles.rbac.authorization.k8s.io "r" is forbidden: not held`},
		{name: "owners of more", op: admission.Update, kind: roleKind, obj: collected, old: much},
		{name: "escalating it", op: admission.Update, kind: roleKind, obj: much, old: much, may: verbOn{"escalate", "roles", "a", "r"}},
		{name: "escalating another", op: admission.Update, kind: roleKind, obj: labelled, old: much, may: verbOn{"escalate", "roles", "a", "s"}, want: `roles.rbac.authorization.k8s.io "r" is forbidden: not held`},
		{name: "escalating one that is made", op: admission.Create, kind: roleKind, obj: much, may: verbOn{"escalate", "roles", "a", ""}},
		{name: "escalating by a name that is made", op: admission.Create, kind: roleKind, obj: much, may: verbOn{"escalate", "roles", "a", "r"}, want: `roles.rbac.authorization.k8s.io "r" is forbidden: not held`},
		{name: "deleting", op: admission.Delete, kind: roleKind, old: much},
		{name: "aggregating", op: admission.Create, kind: clusterRoleKind, obj: aggregated(), want: `clusterroles.rbac.authorization.k8s.io "r" is forbidden: must have cluster-admin privileges to use the aggregationRule`},
		{name: "no more aggregating", op: admission.Update, kind: clusterRoleKind, obj: &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r"}}, old: aggregated(),
			want: `clusterroles.rbac.authorization.k8s.io "r" is forbidden: must have cluster-admin privileges to use the aggregationRule`},
		{name: "aggregating with the verb", op: admission.Update, kind: clusterRoleKind, obj: aggregated(everything...), old: aggregated(), may: verbOn{"escalate", "clusterroles", "", "r"}},
		{name: "binding less", op: admission.Create, kind: bindingKind, obj: binding("Role", "less")},
		{name: "binding more", op: admission.Create, kind: bindingKind, obj: binding("Role", "more"), want: `rolebindings.rbac.authorization.k8s.io "r" is forbidden: not held`},
		{name: "binding with the verb", op: admission.Create, kind: bindingKind, obj: binding("Role", "more"), may: verbOn{"bind", "roles", "a", "more"}},
		{name: "the verb on the other kind", op: admission.Create, kind: bindingKind, obj: binding("ClusterRole", "more"), may: verbOn{"bind", "roles", "a", "more"}, want: `rolebindings.rbac.authorization.k8s.io "r" is forbidden: not held`},
		{name: "binding a cluster role with the verb", op: admission.Create, kind: bindingKind, obj: binding("ClusterRole", "more"), may: verbOn{"bind", "clusterroles", "a", "more"}},
		{name: "binding nothing", op: admission.Create, kind: bindingKind, obj: binding("Role", "none"), want: `roles.rbac.authorization.k8s.io "none" not found`},
		{name: "binding nothing with the verb", op: admission.Create, kind: bindingKind, obj: binding("Role", "none"), may: verbOn{"bind", "roles", "a", "none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attributes(c.op, c.kind, c.obj, c.old)
			a.User = &request.User{Name: "jane", Groups: c.groups}
			err := (&rbacEscalation{c.may, holder{}}).Validate(t.Context(), a)
			if got := ""; err != nil && err.Error() != c.want || err == nil && c.want != got {
				t.Errorf("got %v", err)
			}
		})
	}
}
