package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// RoleBindings give a role to subjects, in one namespace.
var RoleBindings = registry.Define(registry.Kind[*rbacv1.RoleBinding]{
	Group: group, Version: "v1", Kind: "RoleBinding", Plural: "rolebindings",
	Namespaced: true,
	Name:       pathSegment,
	Default:    func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
	Validate: func(b *rbacv1.RoleBinding) field.ErrorList {
		return validateBinding(&b.RoleRef, b.Subjects, true, "Role", "ClusterRole")
	},
	ValidateUpdate: func(b, old *rbacv1.RoleBinding) field.ErrorList { return validateSameRole(b.RoleRef, old.RoleRef) },
	Columns: bindingColumns(func(b *rbacv1.RoleBinding) (rbacv1.RoleRef, []rbacv1.Subject) {
		return b.RoleRef, b.Subjects
	}),
})
