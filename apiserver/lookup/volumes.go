package lookup

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"pilothouse.dev/apiserver/storage"
)

// PersistentVolumeClaim reads a claim.
func (l *Lookup) PersistentVolumeClaim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return get[*corev1.PersistentVolumeClaim](ctx, l, core("persistentvolumeclaims"), storage.Key{Namespace: namespace, Name: name})
}

// PersistentVolume reads a volume.
func (l *Lookup) PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	return get[*corev1.PersistentVolume](ctx, l, core("persistentvolumes"), storage.Key{Name: name})
}

// CSIDriver reads a storage driver.
func (l *Lookup) CSIDriver(ctx context.Context, name string) (*storagev1.CSIDriver, error) {
	return get[*storagev1.CSIDriver](ctx, l, storagev1.SchemeGroupVersion.WithResource("csidrivers"), storage.Key{Name: name})
}
