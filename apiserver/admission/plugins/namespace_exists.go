package plugins

import (
	"context"

	"pilothouse.dev/apiserver/admission"
)

// namespaceExists refuses every write in a namespace that does not exist, where NamespaceLifecycle refuses creates
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#namespaceexists).
type namespaceExists struct{ namespaces Namespaces }

func (*namespaceExists) Name() string { return "NamespaceExists" }

func (p *namespaceExists) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation == admission.Connect || !a.Resource.Namespaced {
		return nil
	}
	_, err := p.namespaces.Namespace(ctx, a.Namespace)
	return err
}
