package plugins

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

// stores is what plugins read of storage: the informers' caches, which do not fail but by not finding.
type stores struct {
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	classes storagelisters.StorageClassLister
}

func newStores(parts framework.Parts) stores {
	core := parts.Informers.Core().V1()
	return stores{core.PersistentVolumeClaims().Lister(), core.PersistentVolumes().Lister(), parts.Informers.Storage().V1().StorageClasses().Lister()}
}

// claim is nil when there is none of this name.
func (s stores) claim(namespace, name string) *corev1.PersistentVolumeClaim {
	c, err := s.claims.PersistentVolumeClaims(namespace).Get(name)
	if err != nil {
		return nil
	}
	return c
}

// volume is nil when there is none of this name.
func (s stores) volume(name string) *corev1.PersistentVolume {
	v, err := s.volumes.Get(name)
	if err != nil {
		return nil
	}
	return v
}

// class is the class of a claim, nil when it has none or there is none of that name.
func (s stores) class(claim *corev1.PersistentVolumeClaim) *storagev1.StorageClass {
	name := volumehelpers.GetPersistentVolumeClaimClass(claim)
	if name == "" {
		return nil
	}
	c, err := s.classes.Get(name)
	if err != nil {
		return nil
	}
	return c
}

// settled says whether a claim has its volume for good.
func settled(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeName != "" && metav1.HasAnnotation(claim.ObjectMeta, volumehelpers.AnnBindCompleted)
}

// delayed says whether claims of a class get their volumes when a pod that uses them has got its node.
func delayed(class *storagev1.StorageClass) bool {
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// uses says whether a pod uses a claim.
func uses(p *nodeinfo.Pod, namespace, name string) bool {
	if p.Namespace != namespace {
		return false
	}
	for _, c := range p.Claims {
		if c == name {
			return true
		}
	}
	return false
}

// concerns says whether an event is about a claim of the pod, or the volume of one.
func concerns(p *nodeinfo.Pod, e framework.Event) bool {
	switch e.Kind {
	case framework.ClaimChanged:
		return uses(p, e.Claim.Namespace, e.Claim.Name)
	case framework.VolumeChanged:
		ref := e.Volume.Spec.ClaimRef
		return ref != nil && uses(p, ref.Namespace, ref.Name)
	}
	return false
}
