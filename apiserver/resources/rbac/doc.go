// Package rbac declares the kinds of the group rbac.authorization.k8s.io, a file each. It says what a role may look like and
// what a binding may name; who may grant what is decided where requests are authorised.
package rbac

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

const group = rbacv1.GroupName

// createdAt is the column that roles have in place of an age.
func createdAt[T registry.Object]() registry.Column[T] {
	return registry.Column[T]{
		Name: "Created At", Type: "date", Description: "When the object was created.",
		Value: func(o T) any { return o.GetCreationTimestamp().UTC().Format(time.RFC3339) },
	}
}

// bindingColumns are the columns of both kinds of bindings.
func bindingColumns[T registry.Object](of func(T) (rbacv1.RoleRef, []rbacv1.Subject)) []registry.Column[T] {
	subjects := func(name, kind string) registry.Column[T] {
		return registry.Column[T]{
			Name: name, Priority: 1, Description: name + " that are bound to the role.",
			Value: func(o T) any {
				_, all := of(o)
				return names(all, kind)
			},
		}
	}
	return []registry.Column[T]{
		{Name: "Role", Description: "The role that is granted.", Value: func(o T) any {
			ref, _ := of(o)
			return ref.Kind + "/" + ref.Name
		}},
		registry.Age[T](),
		subjects("Users", rbacv1.UserKind),
		subjects("Groups", rbacv1.GroupKind),
		subjects("ServiceAccounts", rbacv1.ServiceAccountKind),
	}
}

func names(subjects []rbacv1.Subject, kind string) string {
	var all []string
	for _, s := range subjects {
		if s.Kind != kind {
			continue
		}
		name := s.Name
		if kind == rbacv1.ServiceAccountKind {
			name = s.Namespace + "/" + name
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

// named checks a name that must be there. Names here may hold anything that fits between two slashes of a path.
func named(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return registry.Invalid(name, content.IsPathSegmentName(name), at)
}

// pathSegment checks the name of an object of this group; part of it is enough for a name that is to be completed.
func pathSegment(name string, prefix bool) []string {
	if prefix {
		return content.IsPathSegmentPrefix(name)
	}
	return content.IsPathSegmentName(name)
}
