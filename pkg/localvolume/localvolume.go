// Package localvolume is what three daemons must agree on about volumes that are folders of a node and are made when a claim wants
// one: the controller manager makes the PersistentVolume, the node's kubelet its folder, and the API server lets that kubelet watch
// such volumes and take their finalizer away. Pure.
package localvolume

import (
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

const (
	// Provisioner is what a StorageClass names, and who is told in a volume's annotation pv.kubernetes.io/provisioned-by.
	Provisioner = "pilothouse.dev/local-path"
	// Finalizer keeps a volume's object until its folder is gone.
	Finalizer = "pilothouse.dev/local-path"
	// Protection is the finalizer that keeps a volume that is bound, whoever made it (see pvprotection of the controller manager). No
	// folder is removed while it is there, and once it is gone from a volume that is being deleted, it does not come back.
	Protection = "kubernetes.io/pv-protection"
	// NodeLabel says on which node a volume's folder is: a kubelet watches the volumes that bear its own name.
	NodeLabel = "pilothouse.dev/local-volume-node"
	// DefaultDir is the folder of the folders, on every node.
	DefaultDir = "/var/lib/pilothouse/volumes"

	// annotationProvisionedBy is where a volume says who made it.
	annotationProvisionedBy = "pv.kubernetes.io/provisioned-by"
)

// Path is the folder of a volume: the one rule by which it is made and by which it is removed.
func Path(dir, volume string) string { return filepath.Join(dir, volume) }

// Ours says whether a volume was made by the provisioner, so that its folder is ours to make and to remove.
func Ours(v *corev1.PersistentVolume) bool {
	return v.Annotations[annotationProvisionedBy] == Provisioner && v.Spec.Local != nil
}
