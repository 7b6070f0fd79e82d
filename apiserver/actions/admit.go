package actions

import (
	"context"
	"net/http"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// admit lets admission have its say on what is asked of a subresource: obj is what was sent, nil when there is no such thing. What
// plugins took for it is given back, since nothing is stored.
func (p Parts) admit(ctx context.Context, on *registry.Resource, op admission.Operation, sub string, key storage.Key, obj registry.Object, dry bool) error {
	a := &admission.Attributes{
		Operation: op, Resource: on, Subresource: sub, Namespace: key.Namespace, Name: key.Name,
		Object: obj, User: request.UserOf(ctx), DryRun: dry,
	}
	err := p.Admission.Mutate(ctx, a)
	if err == nil {
		err = p.Admission.Validate(ctx, a)
	}
	p.Admission.Undo(context.WithoutCancel(ctx), a)
	return err
}

// connect asks admission before a stream or a proxied request begins.
func (p Parts) connect(serve serve) serve {
	return func(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
		if err := p.admit(r.Context(), on, admission.Connect, i.Subresource, keyOf(i), nil, false); err != nil {
			return err
		}
		return serve(w, r, on, i)
	}
}

type serve = func(http.ResponseWriter, *http.Request, *registry.Resource, *request.Info) error
