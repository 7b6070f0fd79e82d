package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// LocalSubjectAccessReviews ask what somebody may do in one namespace, so that the right to ask can be given in a namespace.
var LocalSubjectAccessReviews = registry.Define(registry.Kind[*authorizationv1.LocalSubjectAccessReview]{
	Group: group, Version: version, Kind: "LocalSubjectAccessReview", Plural: "localsubjectaccessreviews",
	Namespaced: true, Verbs: verbs, Virtual: true,
	Validate: func(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
		spec := field.NewPath("spec")
		errs := validateSubject(&r.Spec, spec)
		errs = append(errs, emptyMeta(r.ObjectMeta, " except for namespace")...)
		if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
			errs = append(errs, field.Invalid(spec.Child("resourceAttributes", "namespace"), a.Namespace, "must match metadata.namespace"))
		}
		if a := r.Spec.NonResourceAttributes; a != nil {
			errs = append(errs, field.Invalid(spec.Child("nonResourceAttributes"), a, "disallowed on this kind of request"))
		}
		return errs
	},
})
