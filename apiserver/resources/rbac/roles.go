package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// Roles grant verbs on resources of one namespace.
var Roles = registry.Define(registry.Kind[*rbacv1.Role]{
	Group: group, Version: "v1", Kind: "Role", Plural: "roles",
	Namespaced: true,
	Name:       pathSegment,
	Validate:   func(r *rbacv1.Role) field.ErrorList { return validateRules(r.Rules, true) },
	Columns:    []registry.Column[*rbacv1.Role]{createdAt[*rbacv1.Role]()},
})
