package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// SubjectAccessReviews ask what somebody may do.
var SubjectAccessReviews = registry.Define(registry.Kind[*authorizationv1.SubjectAccessReview]{
	Group: group, Version: version, Kind: "SubjectAccessReview", Plural: "subjectaccessreviews",
	Verbs: verbs, Virtual: true,
	Validate: func(r *authorizationv1.SubjectAccessReview) field.ErrorList {
		errs := validateSubject(&r.Spec, field.NewPath("spec"))
		return append(errs, emptyMeta(r.ObjectMeta, "")...)
	},
})
