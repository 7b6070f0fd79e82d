package changes

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// Follow tells the Tracker of every Service and EndpointSlice there is. The
// returned functions say whether it has heard of all that were there at the start.
func (t *Tracker) Follow(f informers.SharedInformerFactory) ([]cache.InformerSynced, error) {
	services, err := f.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { t.SetService(o.(*corev1.Service)) },
		UpdateFunc: func(_, o any) { t.SetService(o.(*corev1.Service)) },
		DeleteFunc: func(o any) {
			if svc, ok := last(o).(*corev1.Service); ok {
				t.DeleteService(svc.Namespace, svc.Name)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("following services: %w", err)
	}
	slices, err := f.Discovery().V1().EndpointSlices().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { t.SetSlice(o.(*discoveryv1.EndpointSlice)) },
		UpdateFunc: func(old, o any) {
			was, now := old.(*discoveryv1.EndpointSlice), o.(*discoveryv1.EndpointSlice)
			if before, _ := ownerOf(was); before.Name != "" {
				if after, _ := ownerOf(now); after != before {
					t.DeleteSlice(was) // it was handed to another Service
				}
			}
			t.SetSlice(now)
		},
		DeleteFunc: func(o any) {
			if s, ok := last(o).(*discoveryv1.EndpointSlice); ok {
				t.DeleteSlice(s)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("following endpoint slices: %w", err)
	}
	return []cache.InformerSynced{services.HasSynced, slices.HasSynced}, nil
}

// last is the last known state of a deleted object.
func last(o any) any {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		return gone.Obj
	}
	return o
}
