package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ClusterRoleBindings give a cluster role to subjects, everywhere.
var ClusterRoleBindings = registry.Define(registry.Kind[*rbacv1.ClusterRoleBinding]{
	Group: group, Version: "v1", Kind: "ClusterRoleBinding", Plural: "clusterrolebindings",
	Name:    pathSegment,
	Default: func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
	Validate: func(b *rbacv1.ClusterRoleBinding) field.ErrorList {
		return validateBinding(&b.RoleRef, b.Subjects, false, "ClusterRole")
	},
	ValidateUpdate: func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
		return validateSameRole(b.RoleRef, old.RoleRef)
	},
	Columns: bindingColumns(func(b *rbacv1.ClusterRoleBinding) (rbacv1.RoleRef, []rbacv1.Subject) {
		return b.RoleRef, b.Subjects
	}),
})
