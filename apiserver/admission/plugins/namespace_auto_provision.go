package plugins

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/admission"
)

// namespaceAutoProvision makes a namespace when something is made in it
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#namespaceautoprovision).
type namespaceAutoProvision struct {
	namespaces Namespaces
	make       func(ctx context.Context, name string) error
}

func (*namespaceAutoProvision) Name() string { return "NamespaceAutoProvision" }

func (p *namespaceAutoProvision) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Resource.Namespaced || a.Namespace == "" || a.DryRun {
		return nil
	}
	_, err := p.namespaces.Namespace(ctx, a.Namespace)
	if apierrors.IsNotFound(err) {
		err = p.make(ctx, a.Namespace)
	}
	return err
}
