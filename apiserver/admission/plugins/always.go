package plugins

import (
	"context"
	"errors"

	"pilothouse.dev/apiserver/admission"
)

// alwaysAdmit and alwaysDeny let in everything and nothing. Nobody needs them, but their names are known
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#alwaysadmit).
type (
	alwaysAdmit struct{}
	alwaysDeny  struct{}
)

func (alwaysAdmit) Name() string { return "AlwaysAdmit" }

func (alwaysAdmit) Validate(context.Context, *admission.Attributes) error { return nil }

func (alwaysDeny) Name() string { return "AlwaysDeny" }

func (alwaysDeny) Mutate(_ context.Context, a *admission.Attributes) error { return denied(a) }

func (alwaysDeny) Validate(_ context.Context, a *admission.Attributes) error { return denied(a) }

func denied(a *admission.Attributes) error {
	return forbid(a, "%w", errors.New("admission control is denying all modifications"))
}
