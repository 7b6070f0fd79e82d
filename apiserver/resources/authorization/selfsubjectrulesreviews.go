package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"

	"pilothouse.dev/apiserver/registry"
)

// SelfSubjectRulesReviews ask for all that the caller may do in a namespace (kubectl auth can-i --list).
var SelfSubjectRulesReviews = registry.Define(registry.Kind[*authorizationv1.SelfSubjectRulesReview]{
	Group: group, Version: version, Kind: "SelfSubjectRulesReview", Plural: "selfsubjectrulesreviews",
	Verbs: verbs, Virtual: true,
})
