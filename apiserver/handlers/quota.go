package handlers

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// keeper is who writes what is used into quotas: the server itself, on whosever behalf.
var keeper = &request.User{Name: "system:apiserver", Groups: []string{authz.Masters}}

// ChangeQuota changes what a resource quota's status says is used, in the server's own name. change is given the quota as it is,
// and again when another write came between, with the newer one; what it leaves as it was is not written, but then it has seen the
// newest. A quota that does not exist is an apierrors NotFound.
func (h *Handlers) ChangeQuota(ctx context.Context, namespace, name string, change func(q *corev1.ResourceQuota)) error {
	quotas := corev1.SchemeGroupVersion.WithResource("resourcequotas")
	res := h.reg.Find(quotas)
	if res == nil {
		return apierrors.NewNotFound(quotas.GroupResource(), name)
	}
	// Not the request's own scope: its user and manager have not written the quota, and its warnings are not about it.
	info := &request.Info{
		Verb: "update", IsResource: true, Version: quotas.Version, Namespace: namespace, Resource: quotas.Resource, Name: name,
		Subresource: "status", Manager: "apiserver",
	}
	ctx = request.Begin(request.WithUser(ctx, keeper), info, h.log, nil)
	_, err := h.Mutate(ctx, res, storage.Key{Namespace: namespace, Name: name}, "status", false, func(old registry.Object) (registry.Object, error) {
		change(old.(*corev1.ResourceQuota))
		return old, nil
	})
	return err
}
