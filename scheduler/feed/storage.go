package feed

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/scheduler/framework"
)

// followStorage tells the queue of what may help pods with volumes. The plugins read the informers themselves, which know of an
// object before it is told here.
func (f *Feed) followStorage() (done []cache.InformerSynced, err error) {
	core, storage := f.informers.Core().V1(), f.informers.Storage().V1()
	became := func(event func(now any) framework.Event) cache.ResourceEventHandlerFuncs {
		return cache.ResourceEventHandlerFuncs{
			AddFunc: func(o any) { f.queue.Event(event(o)) },
			UpdateFunc: func(was, is any) {
				if was.(metav1.Object).GetResourceVersion() != is.(metav1.Object).GetResourceVersion() {
					f.queue.Event(event(is))
				}
			},
		}
	}
	only := func(kind framework.EventKind) func(any) framework.Event {
		return func(any) framework.Event { return framework.Event{Kind: kind} }
	}
	// What says of a limit helps by going, too.
	orWent := func(kind framework.EventKind) cache.ResourceEventHandler {
		h := became(only(kind))
		h.DeleteFunc = func(any) { f.queue.Event(framework.Event{Kind: kind}) }
		return h
	}
	for _, source := range []struct {
		what     string
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{"claims", core.PersistentVolumeClaims().Informer(), became(func(o any) framework.Event {
			return framework.Event{Kind: framework.ClaimChanged, Claim: o.(*corev1.PersistentVolumeClaim)}
		})},
		{"volumes", core.PersistentVolumes().Informer(), became(func(o any) framework.Event {
			return framework.Event{Kind: framework.VolumeChanged, Volume: o.(*corev1.PersistentVolume)}
		})},
		{"storage classes", storage.StorageClasses().Informer(), became(func(o any) framework.Event {
			return framework.Event{Kind: framework.ClassChanged, Class: o.(*storagev1.StorageClass)}
		})},
		{"nodes' storage drivers", storage.CSINodes().Informer(), orWent(framework.DriversChanged)},
		{"attachments", storage.VolumeAttachments().Informer(), cache.ResourceEventHandlerFuncs{
			DeleteFunc: func(any) { f.queue.Event(framework.Event{Kind: framework.DriversChanged}) },
		}},
		{"storage drivers", storage.CSIDrivers().Informer(), orWent(framework.StorageChanged)},
		{"storage capacities", storage.CSIStorageCapacities().Informer(), became(only(framework.StorageChanged))},
	} {
		registration, err := source.informer.AddEventHandler(source.handler)
		if err != nil {
			return nil, fmt.Errorf("listening to %s: %w", source.what, err)
		}
		done = append(done, registration.HasSynced)
	}
	return done, nil
}
