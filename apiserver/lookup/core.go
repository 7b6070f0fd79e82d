package lookup

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/storage"
)

// Namespace reads a namespace.
func (l *Lookup) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return get[*corev1.Namespace](ctx, l, core("namespaces"), storage.Key{Name: name})
}

// Node reads a node.
func (l *Lookup) Node(ctx context.Context, name string) (*corev1.Node, error) {
	return get[*corev1.Node](ctx, l, core("nodes"), storage.Key{Name: name})
}

// Pod reads a pod.
func (l *Lookup) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return get[*corev1.Pod](ctx, l, core("pods"), storage.Key{Namespace: namespace, Name: name})
}

// Secret reads a secret.
func (l *Lookup) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return get[*corev1.Secret](ctx, l, core("secrets"), storage.Key{Namespace: namespace, Name: name})
}

// ServiceAccount reads a service account.
func (l *Lookup) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return get[*corev1.ServiceAccount](ctx, l, core("serviceaccounts"), storage.Key{Namespace: namespace, Name: name})
}

// Service reads a service.
func (l *Lookup) Service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	return get[*corev1.Service](ctx, l, core("services"), storage.Key{Namespace: namespace, Name: name})
}

// Services reads every service, in the newest state.
func (l *Lookup) Services(ctx context.Context) ([]*corev1.Service, error) {
	return list[*corev1.Service](ctx, l, core("services"), storage.Selector{}, storage.Read{})
}

// LimitRanges reads the limit ranges of a namespace: those of the newest state, or those at hand.
func (l *Lookup) LimitRanges(ctx context.Context, namespace string, newest bool) ([]*corev1.LimitRange, error) {
	read := storage.Cached
	if newest {
		read = storage.Read{}
	}
	return list[*corev1.LimitRange](ctx, l, core("limitranges"), storage.Selector{Namespace: namespace}, read)
}
