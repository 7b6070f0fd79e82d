package localpath

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/localvolume"
)

// The annotations by which binder, scheduler and provisioners speak with each other
// (https://kubernetes.io/docs/reference/labels-annotations-taints/).
const (
	annProvisioner   = "volume.kubernetes.io/storage-provisioner"
	annSelectedNode  = "volume.kubernetes.io/selected-node"
	annProvisionedBy = "pv.kubernetes.io/provisioned-by"
	annClass         = corev1.BetaStorageClassAnnotation
)

// awaits says whether a claim waits for us to make its volume.
func awaits(c *corev1.PersistentVolumeClaim) bool {
	return c.Annotations[annProvisioner] == localvolume.Provisioner && c.Spec.VolumeName == "" && c.DeletionTimestamp == nil
}

// classOf is the name of a claim's class.
func classOf(c *corev1.PersistentVolumeClaim) string {
	if name, old := c.Annotations[annClass]; old {
		return name
	}
	if c.Spec.StorageClassName == nil {
		return ""
	}
	return *c.Spec.StorageClassName
}

// volumeName is the name of a claim's volume: a provisioner that crashed finds what it has made by it.
func volumeName(c *corev1.PersistentVolumeClaim) string { return "pvc-" + string(c.UID) }

// refuse says why a claim can never have a folder of a node; nil: it can.
func refuse(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	for _, mode := range c.Spec.AccessModes {
		if mode != corev1.ReadWriteOnce && mode != corev1.ReadWriteOncePod {
			return fmt.Errorf("access mode %s is not supported: the volume is a folder of one node; use %s or %s", mode, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)
		}
	}
	switch {
	case c.Spec.VolumeMode != nil && *c.Spec.VolumeMode != corev1.PersistentVolumeFilesystem:
		return fmt.Errorf("volume mode %s is not supported: the volume is a folder", *c.Spec.VolumeMode)
	case c.Spec.Selector != nil:
		return fmt.Errorf("claim.Spec.Selector is not supported")
	case c.Spec.DataSource != nil || c.Spec.DataSourceRef != nil:
		return fmt.Errorf("a data source is not supported: the volume begins empty")
	case c.Spec.VolumeAttributesClassName != nil && *c.Spec.VolumeAttributesClassName != "":
		return fmt.Errorf("volume attributes class %q is not supported", *c.Spec.VolumeAttributesClassName)
	case class.VolumeBindingMode == nil || *class.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer:
		return fmt.Errorf("the class must have volumeBindingMode %s: a pod decides on which node the folder is", storagev1.VolumeBindingWaitForFirstConsumer)
	}
	for name := range class.Parameters {
		return fmt.Errorf("unknown parameter %q: the class has none", name)
	}
	return nil
}

// unfit says why a node cannot have the volume, so that the scheduler is to choose another; nil: it can.
func unfit(class *storagev1.StorageClass, n *corev1.Node) error {
	switch {
	case n.Labels[corev1.LabelHostname] == "":
		return fmt.Errorf("node %q has no label %s", n.Name, corev1.LabelHostname)
	case len(n.Name) > 63:
		return fmt.Errorf("the name of node %q is too long for a label", n.Name)
	case len(class.AllowedTopologies) > 0 && !slices.ContainsFunc(class.AllowedTopologies, func(t corev1.TopologySelectorTerm) bool { return within(t, n) }):
		return fmt.Errorf("node %q is not in the class's allowedTopologies", n.Name)
	}
	return nil
}

func within(t corev1.TopologySelectorTerm, n *corev1.Node) bool {
	return !slices.ContainsFunc(t.MatchLabelExpressions, func(e corev1.TopologySelectorLabelRequirement) bool {
		value, has := n.Labels[e.Key]
		return !has || !slices.Contains(e.Values, value)
	})
}

// volume is what a claim gets on a node.
func volume(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, n *corev1.Node, dir string) *corev1.PersistentVolume {
	reclaim, mode := corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeFilesystem
	if class.ReclaimPolicy != nil {
		reclaim = *class.ReclaimPolicy
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        volumeName(c),
			Annotations: map[string]string{annProvisionedBy: localvolume.Provisioner},
			Labels:      map[string]string{localvolume.NodeLabel: n.Name},
			Finalizers:  []string{localvolume.Finalizer},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: slices.Clone(c.Spec.AccessModes),
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion,
			},
			PersistentVolumeReclaimPolicy: reclaim,
			StorageClassName:              class.Name,
			MountOptions:                  slices.Clone(class.MountOptions),
			VolumeMode:                    &mode,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: localvolume.Path(dir, volumeName(c))},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{n.Labels[corev1.LabelHostname]},
				}},
			}}}},
		},
	}
}

// belongs says whether a volume is the one that we made for a claim.
func belongs(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	return localvolume.Ours(v) && v.Spec.ClaimRef != nil && v.Spec.ClaimRef.UID == c.UID
}

// fate is what becomes of one of our volumes.
type fate int

const (
	stays   fate = iota
	deleted      // its claim is gone, and it is to go, too
	orphan       // it is going; only its node can end that, if there is one
)

// fateOf looks at a volume. One with Retain stays until somebody deletes it.
func fateOf(v *corev1.PersistentVolume) fate {
	switch {
	case !localvolume.Ours(v):
	case v.DeletionTimestamp != nil && slices.Contains(v.Finalizers, localvolume.Finalizer) && v.Status.Phase != corev1.VolumeBound:
		return orphan
	case v.DeletionTimestamp == nil && v.Status.Phase == corev1.VolumeReleased && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return deleted
	}
	return stays
}
