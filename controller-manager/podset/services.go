package podset

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/endpointslice/util"

	"pilothouse.dev/controller-manager/loop"
)

// ServicesOf wakes the Services that select a pod, or did, when the pod changed in a way that endpoints show.
func ServicesOf(services corelisters.ServiceLister) loop.Waker {
	return loop.Func("Services that select it", func(e loop.Event) []loop.Key {
		var old, now any // no typed nil may get in
		if e.Old != nil {
			old = e.Old
		}
		if e.New != nil {
			now = e.New
		}
		names, err := util.GetServicesToUpdate(services, util.GetPodUpdateProjectionKey(old, now))
		if err != nil {
			return nil // a cache does not fail
		}
		keys := make([]loop.Key, 0, len(names))
		for n := range names {
			if k, err := cache.ParseObjectName(n); err == nil {
				keys = append(keys, k)
			}
		}
		return keys
	})
}

// Behind are the pods a Service selects, and false when its endpoints are none of ours: it has no selector, or only a name.
func Behind(svc *corev1.Service, pods corelisters.PodLister) ([]*corev1.Pod, bool, error) {
	if svc.Spec.Selector == nil || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, false, nil
	}
	list, err := pods.Pods(svc.Namespace).List(labels.SelectorFromSet(svc.Spec.Selector))
	return list, true, err
}
