package authorization

import (
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateSubject(s *authorizationv1.SubjectAccessReviewSpec, at *field.Path) field.ErrorList {
	errs := validateAttributes(s.ResourceAttributes, s.NonResourceAttributes, at)
	if s.User == "" && len(s.Groups) == 0 {
		errs = append(errs, field.Invalid(at.Child("user"), s.User, "at least one of user or group must be specified"))
	}
	return errs
}

// validateAttributes checks what is asked about: a resource or a path, never both.
func validateAttributes(r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case r != nil && n != nil:
		errs = append(errs, field.Invalid(at.Child("nonResourceAttributes"), n, "cannot be specified in combination with resourceAttributes"))
	case r == nil && n == nil:
		errs = append(errs, field.Invalid(at.Child("resourceAttributes"), n, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if r == nil {
		return errs
	}
	at = at.Child("resourceAttributes")
	if s := r.FieldSelector; s != nil {
		path := at.Child("fieldSelector")
		errs = append(errs, validateSelector(s.RawSelector, len(s.Requirements), path)...)
		for i, one := range s.Requirements {
			errs = append(errs, metav1validation.ValidateFieldSelectorRequirement(one, metav1validation.FieldSelectorValidationOptions{}, path.Child("requirements").Index(i))...)
		}
	}
	if s := r.LabelSelector; s != nil {
		path := at.Child("labelSelector")
		errs = append(errs, validateSelector(s.RawSelector, len(s.Requirements), path)...)
		for i, one := range s.Requirements {
			errs = append(errs, metav1validation.ValidateLabelSelectorRequirement(one, metav1validation.LabelSelectorValidationOptions{}, path.Child("requirements").Index(i))...)
		}
	}
	return errs
}

// validateSelector wants a selector in one of its two forms.
func validateSelector(raw string, requirements int, at *field.Path) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(at.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", at))}
	}
	return nil
}

// emptyMeta refuses names, labels and the like: a question is not an object. Fields that the server or a client library sets
// by itself do not count; of a namespaced kind the namespace does not.
func emptyMeta(m metav1.ObjectMeta, but string) field.ErrorList {
	rest := m
	rest.ManagedFields = nil
	if but != "" {
		rest.Namespace = ""
	}
	if apiequality.Semantic.DeepEqual(rest, metav1.ObjectMeta{}) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), m, "must be empty"+but)}
}
