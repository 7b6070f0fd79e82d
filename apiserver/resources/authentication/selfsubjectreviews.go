package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"

	"pilothouse.dev/apiserver/registry"
)

// SelfSubjectReviews ask who the caller is.
var SelfSubjectReviews = registry.Define(registry.Kind[*authenticationv1.SelfSubjectReview]{
	Group: group, Version: version, Kind: "SelfSubjectReview", Plural: "selfsubjectreviews",
	Verbs: verbs, Virtual: true,
})
