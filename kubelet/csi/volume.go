package csi

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Volume is a driver's volume as one pod wants it. Nobody changes what it points to.
type Volume struct {
	Pod *corev1.Pod
	// Outer is its name in the pod; Name that of its PersistentVolume, or the same for an inline one.
	Outer, Name    string
	Driver, Handle string
	// Claim and PV lead to it; both nil for an inline one.
	Claim *corev1.PersistentVolumeClaim
	PV    *corev1.PersistentVolume

	Block, ReadOnly bool
	fsType          string
	mountOptions    []string
	access          corev1.PersistentVolumeAccessMode
	attributes      map[string]string
	stage, publish  *corev1.SecretReference
	expand          *corev1.SecretReference
}

// OfClaim is the volume that a claim is bound to, whose source must be CSI.
func OfClaim(pod *corev1.Pod, outer string, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume, readOnly bool) Volume {
	src := v.Spec.CSI
	vol := Volume{Pod: pod, Outer: outer, Name: v.Name, Driver: src.Driver, Handle: src.VolumeHandle, Claim: c, PV: v,
		Block:    v.Spec.VolumeMode != nil && *v.Spec.VolumeMode == corev1.PersistentVolumeBlock,
		ReadOnly: readOnly || src.ReadOnly, fsType: src.FSType, mountOptions: v.Spec.MountOptions, access: corev1.ReadWriteOnce,
		attributes: src.VolumeAttributes, stage: src.NodeStageSecretRef, publish: src.NodePublishSecretRef, expand: src.NodeExpandSecretRef}
	if len(v.Spec.AccessModes) > 0 {
		vol.access = v.Spec.AccessModes[0]
	}
	return vol
}

// Inline is a volume that a pod has of its own. Drivers know it by a name made of the pod's UID and the volume's name
// (https://kubernetes-csi.github.io/docs/ephemeral-local-volumes.html).
func Inline(pod *corev1.Pod, name string, src *corev1.CSIVolumeSource) Volume {
	vol := Volume{Pod: pod, Outer: name, Name: name, Driver: src.Driver, attributes: src.VolumeAttributes, access: corev1.ReadWriteOnce,
		Handle: fmt.Sprintf("csi-%x", sha256.Sum256([]byte(string(pod.UID)+name)))}
	if src.ReadOnly != nil {
		vol.ReadOnly = *src.ReadOnly
	}
	if src.FSType != nil {
		vol.fsType = *src.FSType
	}
	if r := src.NodePublishSecretRef; r != nil {
		vol.publish = &corev1.SecretReference{Namespace: pod.Namespace, Name: r.Name}
	}
	return vol
}

func (v *Volume) inline() bool { return v.PV == nil }

// key is what the volume is locked by: the driver's own name of it.
func (v *Volume) key() string { return v.Driver + "^" + v.Handle }

// deviceName is what a volume is called in the status of nodes.
func deviceName(driver, handle string) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + driver + "^" + handle)
}

// attachmentName is the name of the attachment of a volume to a node, as the controller manager gives it.
func attachmentName(handle, driver, node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(handle+driver+node)))
}

// group is the group that the volume's files are to be, nil if the pod wants none.
func (v *Volume) group() *int64 {
	if v.Pod.Spec.SecurityContext == nil {
		return nil
	}
	return v.Pod.Spec.SecurityContext.FSGroup
}

// once says whether the volume may be written by one node at a time only.
func (v *Volume) once() bool {
	return v.inline() || slices.ContainsFunc(v.PV.Spec.AccessModes, func(m corev1.PersistentVolumeAccessMode) bool {
		return m == corev1.ReadWriteOnce || m == corev1.ReadWriteOncePod
	})
}

// capability is how the pod wants the volume, in the words of the driver.
func (v *Volume) capability(can capabilities) *spec.VolumeCapability {
	c := &spec.VolumeCapability{AccessMode: &spec.VolumeCapability_AccessMode{Mode: accessMode(v.access, can[spec.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER])}}
	if v.Block {
		c.AccessType = &spec.VolumeCapability_Block{Block: &spec.VolumeCapability_BlockVolume{}}
		return c
	}
	m := &spec.VolumeCapability_MountVolume{FsType: v.fsType, MountFlags: v.mountOptions}
	if g := v.group(); g != nil && can[spec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP] {
		m.VolumeMountGroup = fmt.Sprint(*g)
	}
	c.AccessType = &spec.VolumeCapability_Mount{Mount: m}
	return c
}

// accessMode says a mode in the words of the driver, of which many know no difference between one node and one pod
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes).
func accessMode(m corev1.PersistentVolumeAccessMode, tellsPods bool) spec.VolumeCapability_AccessMode_Mode {
	switch {
	case m == corev1.ReadOnlyMany:
		return spec.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	case m == corev1.ReadWriteMany:
		return spec.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	case m == corev1.ReadWriteOncePod && tellsPods:
		return spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	case tellsPods:
		return spec.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
	}
	return spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
}

// podInfo adds who the pod is to what a driver is told (https://kubernetes-csi.github.io/docs/pod-info.html).
func (v *Volume) podInfo(to map[string]string) {
	maps.Copy(to, map[string]string{
		"csi.storage.k8s.io/pod.name": v.Pod.Name, "csi.storage.k8s.io/pod.namespace": v.Pod.Namespace, "csi.storage.k8s.io/pod.uid": string(v.Pod.UID),
		"csi.storage.k8s.io/serviceAccount.name": v.Pod.Spec.ServiceAccountName, "csi.storage.k8s.io/ephemeral": fmt.Sprint(v.inline()),
	})
}

// Failure is an error in the words that users of Kubernetes know: what was done, and to which volume.
type Failure struct {
	Doing, Volume string
	Err           error
}

func (f *Failure) Error() string {
	return fmt.Sprintf("%s failed for volume %q : %v", f.Doing, f.Volume, f.Err)
}
func (f *Failure) Unwrap() error { return f.Err }

// user names one pod's use of a volume.
type user struct {
	pod  types.UID
	name string // of the folder
}
