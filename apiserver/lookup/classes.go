package lookup

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"

	"pilothouse.dev/apiserver/storage"
)

// PriorityClass reads a priority class.
func (l *Lookup) PriorityClass(ctx context.Context, name string) (*schedulingv1.PriorityClass, error) {
	return get[*schedulingv1.PriorityClass](ctx, l, schedulingv1.SchemeGroupVersion.WithResource("priorityclasses"), storage.Key{Name: name})
}

// PriorityClasses reads every priority class.
func (l *Lookup) PriorityClasses(ctx context.Context) ([]*schedulingv1.PriorityClass, error) {
	return list[*schedulingv1.PriorityClass](ctx, l, schedulingv1.SchemeGroupVersion.WithResource("priorityclasses"), storage.Selector{}, storage.Cached)
}

// RuntimeClass reads a runtime class, in the newest state: one that is gone must not be given to pods any more.
func (l *Lookup) RuntimeClass(ctx context.Context, name string) (*nodev1.RuntimeClass, error) {
	return fresh[*nodev1.RuntimeClass](ctx, l, nodev1.SchemeGroupVersion.WithResource("runtimeclasses"), storage.Key{Name: name})
}

// StorageClasses reads every storage class, in the newest state.
func (l *Lookup) StorageClasses(ctx context.Context) ([]*storagev1.StorageClass, error) {
	return list[*storagev1.StorageClass](ctx, l, storagev1.SchemeGroupVersion.WithResource("storageclasses"), storage.Selector{}, storage.Read{})
}

// IngressClasses reads every ingress class, in the newest state.
func (l *Lookup) IngressClasses(ctx context.Context) ([]*networkingv1.IngressClass, error) {
	return list[*networkingv1.IngressClass](ctx, l, networkingv1.SchemeGroupVersion.WithResource("ingressclasses"), storage.Selector{}, storage.Read{})
}
