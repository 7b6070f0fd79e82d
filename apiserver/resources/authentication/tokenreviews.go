package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"

	"pilothouse.dev/apiserver/registry"
)

// TokenReviews ask whose a token is.
var TokenReviews = registry.Define(registry.Kind[*authenticationv1.TokenReview]{
	Group: group, Version: version, Kind: "TokenReview", Plural: "tokenreviews",
	Verbs: verbs, Virtual: true,
})
