package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// defaultBinding fills in the groups of the role and the subjects.
func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = group
	}
	for i := range subjects {
		s := &subjects[i]
		if s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = group
		}
	}
}

// validateBinding checks a role's reference and who is bound to it. A binding in a namespace may leave out the namespace of a
// service account; roles are the kinds of roles it may name.
func validateBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool, roles ...string) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("roleRef")
	if ref.APIGroup != group {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{group}))
	}
	known := false
	for _, kind := range roles {
		known = known || ref.Kind == kind
	}
	if !known {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, roles))
	}
	errs = append(errs, named(ref.Name, at.Child("name"))...)
	for i := range subjects {
		errs = append(errs, validateSubject(&subjects[i], namespaced, field.NewPath("subjects").Index(i))...)
	}
	return errs
}

func validateSubject(s *rbacv1.Subject, namespaced bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	want := group
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		want = ""
		if s.Name != "" {
			errs = append(errs, registry.Invalid(s.Name, apivalidation.ValidateServiceAccountName(s.Name, false), at.Child("name"))...)
		}
		if !namespaced && s.Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
	default:
		return append(errs, field.NotSupported(at.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	if s.APIGroup != want {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{want}))
	}
	return errs
}

// validateSameRole checks that a binding still grants the role it was made for.
func validateSameRole(ref, old rbacv1.RoleRef) field.ErrorList {
	if ref == old {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("roleRef"), ref, "cannot change roleRef")}
}
