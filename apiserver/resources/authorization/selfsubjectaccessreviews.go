package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// SelfSubjectAccessReviews ask what the caller may do (kubectl auth can-i).
var SelfSubjectAccessReviews = registry.Define(registry.Kind[*authorizationv1.SelfSubjectAccessReview]{
	Group: group, Version: version, Kind: "SelfSubjectAccessReview", Plural: "selfsubjectaccessreviews",
	Verbs: verbs, Virtual: true,
	Validate: func(r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
		errs := validateAttributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes, field.NewPath("spec"))
		return append(errs, emptyMeta(r.ObjectMeta, "")...)
	},
})
