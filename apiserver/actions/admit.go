package actions

import (
	"context"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/authz"
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

// stream is connect for what runs something in a container or reaches into it. A WebSocket begins with a GET, so that it was let in as
// a get; it needs the right to create as well, or who may only read could do so too.
func (p Parts) stream(serve serve) serve {
	next := p.connect(serve)
	return func(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
		if err := p.mayCreate(r.Context(), on, i); err != nil {
			return err
		}
		return next(w, r, on, i)
	}
}

// mayCreate asks for the right to create what was let in by another verb.
func (p Parts) mayCreate(ctx context.Context, on *registry.Resource, i *request.Info) error {
	if i.Verb == "create" {
		return nil
	}
	u, asked := request.UserOf(ctx), *i
	asked.Verb = "create"
	if v := p.Access.Decide(ctx, u, &asked); v.Decision != authz.Allowed {
		return apierrors.NewForbidden(on.GroupResource(), i.Name, errors.New(authz.Explain(u, &asked, v.Reason)))
	}
	return nil
}

type serve = func(http.ResponseWriter, *http.Request, *registry.Resource, *request.Info) error
