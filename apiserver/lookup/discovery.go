package lookup

import (
	"context"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/apiserver/storage"
)

// EndpointSlices reads the endpoint slices of a service.
func (l *Lookup) EndpointSlices(ctx context.Context, namespace, service string) ([]*discoveryv1.EndpointSlice, error) {
	s := storage.Selector{Namespace: namespace, Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service})}
	return list[*discoveryv1.EndpointSlice](ctx, l, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), s, storage.Cached)
}
