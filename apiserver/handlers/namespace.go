package handlers

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/request"
)

// MakeNamespace makes a namespace in the server's own name; that it exists by then is no error.
func (h *Handlers) MakeNamespace(ctx context.Context, name string) error {
	namespaces := corev1.SchemeGroupVersion.WithResource("namespaces")
	res := h.reg.Find(namespaces)
	if res == nil {
		return apierrors.NewNotFound(namespaces.GroupResource(), name)
	}
	info := &request.Info{Verb: "create", IsResource: true, Version: namespaces.Version, Resource: namespaces.Resource, Manager: "apiserver"}
	ctx = request.Begin(request.WithUser(ctx, keeper), info, h.log, nil) // as for quotas
	_, err := h.Create(ctx, res, "", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, false)
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
