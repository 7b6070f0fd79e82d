package podset

import (
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

// byService is the index over EndpointSlices by the Service they say they are of.
const byService = "service"

// Slices finds the EndpointSlices of a Service in the informer's cache, without looking at all of its namespace.
type Slices struct{ indexer cache.Indexer }

// NewSlices asks the factory for the informer of slices and its index. It is called while controllers are made, before the
// factory is started; an informer that has already ended is a broken table.
func NewSlices(f informers.SharedInformerFactory) Slices {
	inf := f.Discovery().V1().EndpointSlices().Informer()
	if _, there := inf.GetIndexer().GetIndexers()[byService]; !there {
		err := inf.AddIndexers(cache.Indexers{byService: func(obj any) ([]string, error) {
			return []string{ServiceOf(obj.(*discoveryv1.EndpointSlice)).String()}, nil
		}})
		if err != nil {
			panic("indexing slices: " + err.Error())
		}
	}
	return Slices{inf.GetIndexer()}
}

// ServiceOf is the Service a slice says it is of; its name is empty when it says none.
func ServiceOf(s *discoveryv1.EndpointSlice) loop.Key {
	return loop.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

// Of are the slices of a Service that managedBy manages and nobody is deleting.
func (s Slices) Of(service loop.Key, managedBy string) ([]*discoveryv1.EndpointSlice, error) {
	objs, err := s.indexer.ByIndex(byService, service.String())
	if err != nil {
		return nil, err
	}
	var found []*discoveryv1.EndpointSlice
	for _, o := range objs {
		if e := o.(*discoveryv1.EndpointSlice); e.Labels[discoveryv1.LabelManagedBy] == managedBy && e.DeletionTimestamp == nil {
			found = append(found, e)
		}
	}
	return found, nil
}
