package lookup

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// Quotas are the resource quotas by their namespaces, for every write asks whether there are any.
type Quotas struct {
	byNamespace *View[*corev1.ResourceQuota, *corev1.ResourceQuota, map[string][]*corev1.ResourceQuota]
}

// NewQuotas makes it; asking begins later.
func NewQuotas(l *Lookup) *Quotas {
	return &Quotas{NewView(l, core("resourcequotas"),
		func(q *corev1.ResourceQuota) *corev1.ResourceQuota { return q },
		func(all []*corev1.ResourceQuota) map[string][]*corev1.ResourceQuota {
			by := map[string][]*corev1.ResourceQuota{}
			for _, q := range all {
				by[q.Namespace] = append(by[q.Namespace], q)
			}
			return by
		})}
}

// ResourceQuotas are those of a namespace in the order of their names, as fresh as the watch cache. They are shared: nobody changes
// them.
func (q *Quotas) ResourceQuotas(ctx context.Context, namespace string) ([]*corev1.ResourceQuota, error) {
	by, err := q.byNamespace.Get(ctx)
	return by[namespace], err
}
