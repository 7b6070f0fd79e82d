package handlers

import (
	"context"
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/allocator"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

var ipAddresses = networkingv1.SchemeGroupVersion.WithResource("ipaddresses")

// onAddress finds the kind IPAddress, and begins a request about one in the server's own name.
func (h *Handlers) onAddress(ctx context.Context, verb string, ip netip.Addr) (context.Context, *registry.Resource, error) {
	res := h.reg.Find(ipAddresses)
	if res == nil {
		return ctx, nil, apierrors.NewNotFound(ipAddresses.GroupResource(), ip.String())
	}
	info := &request.Info{
		Verb: verb, IsResource: true, Group: ipAddresses.Group, Version: ipAddresses.Version, Resource: ipAddresses.Resource, Name: ip.String(),
		Manager: "apiserver",
	}
	return request.Begin(request.WithUser(ctx, keeper), info, h.log, nil), res, nil // as for quotas
}

// MakeAddress makes the IPAddress of a service's address, in the server's own name: an apierrors AlreadyExists when there is one,
// whosever.
func (h *Handlers) MakeAddress(ctx context.Context, ip netip.Addr, owner allocator.Owner) error {
	ctx, res, err := h.onAddress(ctx, "create", ip)
	if err != nil {
		return err
	}
	_, err = h.Create(ctx, res, "", allocator.ObjectOf(ip, owner), false)
	return err
}

// DropAddress deletes the IPAddress of an address that a service had. One that is gone, or was made by others or for another
// service, is no error.
func (h *Handlers) DropAddress(ctx context.Context, ip netip.Addr, owner allocator.Owner) error {
	ctx, res, err := h.onAddress(ctx, "delete", ip)
	if err != nil {
		return err
	}
	key := storage.Key{Name: ip.String()}
	// What the cache has may be the address of one before; then the newest tells.
	for _, look := range []func(context.Context, *registry.Resource, storage.Key) (base, error){h.baseOf, h.freshBase} {
		var b base
		if b, err = look(ctx, res, key); err != nil {
			break
		}
		obj, derr := res.Decode(b.entry)
		if derr != nil {
			return derr
		}
		if made, ours := allocator.OwnerOf(obj.(*networkingv1.IPAddress)); !ours || made != owner {
			continue
		}
		if _, _, err = h.Delete(ctx, res, key, metav1.NewPreconditionDeleteOptions(string(obj.GetUID()))); !apierrors.IsConflict(err) {
			break
		}
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
