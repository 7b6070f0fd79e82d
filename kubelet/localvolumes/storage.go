package localvolumes

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Storage is where the claims of this node's pods lead to. Claims and volumes are read from the API each time: a kubelet may get those of
// its pods, and not watch them.
type Storage struct {
	Core typedcorev1.CoreV1Interface
	Dirs *Dirs
	Self func() *corev1.Node // nil while it is not known
}

// Claim reads a claim; one that does not exist is an API «not found» error.
func (s Storage) Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return s.Core.PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
}

// Volume reads a volume; one that does not exist is an API «not found» error.
func (s Storage) Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	return s.Core.PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
}

// Node is this node, nil while it is not known.
func (s Storage) Node() *corev1.Node { return s.Self() }

// Make makes the folder of a volume that the provisioner made.
func (s Storage) Make(v *corev1.PersistentVolume) error {
	_, err := s.Dirs.Make(v)
	return err
}
