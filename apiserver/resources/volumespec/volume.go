package volumespec

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/resources/podspec"
)

var reclaimPolicies = sets.New(corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)

// DefaultVolume fills in what a volume's spec leaves out.
func DefaultVolume(s *corev1.PersistentVolumeSpec) {
	RoundUp(s.Capacity)
	orDefault(&s.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	if s.VolumeMode == nil {
		s.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	}
	if s.HostPath != nil && s.HostPath.Type == nil {
		s.HostPath.Type = ptr.To(corev1.HostPathUnset)
	}
	if s.RBD != nil {
		orDefault(&s.RBD.RBDPool, "rbd")
		orDefault(&s.RBD.RadosUser, "admin")
		orDefault(&s.RBD.Keyring, "/etc/ceph/keyring")
	}
	if s.ISCSI != nil {
		orDefault(&s.ISCSI.ISCSIInterface, "default")
	}
	if s.ScaleIO != nil {
		orDefault(&s.ScaleIO.StorageMode, "ThinProvisioned")
		orDefault(&s.ScaleIO.FSType, "xfs")
	}
	if d := s.AzureDisk; d != nil {
		orNew(&d.CachingMode, corev1.AzureDataDiskCachingReadWrite)
		orNew(&d.Kind, corev1.AzureSharedBlobDisk)
		orNew(&d.FSType, "ext4")
		orNew(&d.ReadOnly, false)
	}
}

func orDefault[T ~string](s *T, value T) {
	if *s == "" {
		*s = value
	}
}

func orNew[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// ValidateVolume checks the spec of a persistent volume.
func ValidateVolume(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	errs := validateShape(s, at)
	capacity := at.Child("capacity")
	if len(s.Capacity) == 0 {
		errs = append(errs, field.Required(capacity, ""))
	}
	if _, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		errs = append(errs, field.NotSupported(capacity, s.Capacity, onlyStorage))
	}
	for _, name := range sets.List(sets.KeySet(s.Capacity)) {
		errs = append(errs, ValidatePositive(s.Capacity[name], capacity.Key(string(name)))...)
	}
	policy := at.Child("persistentVolumeReclaimPolicy")
	if p := s.PersistentVolumeReclaimPolicy; p != "" && !reclaimPolicies.Has(p) {
		errs = append(errs, field.NotSupported(policy, p, sets.List(reclaimPolicies)))
	}
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(policy, "may not be 'recycle' for a hostPath mount of '/'"))
	}
	errs = append(errs, validateAffinity(s, at.Child("nodeAffinity"))...)
	errs = append(errs, ValidateClass(s.StorageClassName, at.Child("storageClassName"))...)
	if m := s.VolumeMode; m != nil && !volumeModes.Has(*m) {
		errs = append(errs, field.NotSupported(at.Child("volumeMode"), *m, sets.List(volumeModes)))
	}
	return errs
}

// ValidateInlineVolume checks a volume's spec that an attachment carries: only what says where the volume is.
func ValidateInlineVolume(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	const inline = " in the context of inline volumes"
	not := func(set bool, name string) {
		if set {
			errs = append(errs, field.Forbidden(at.Child(name), "may not be specified"+inline))
		}
	}
	not(s.ClaimRef != nil, "claimRef")
	not(len(s.Capacity) > 0, "capacity")
	if s.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified"+inline))
	}
	if p := s.PersistentVolumeReclaimPolicy; p != "" && p != corev1.PersistentVolumeReclaimRetain {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may only be "+string(corev1.PersistentVolumeReclaimRetain)+inline))
	}
	not(s.NodeAffinity != nil, "nodeAffinity")
	not(s.StorageClassName != "", "storageClassName")
	if m := s.VolumeMode; m != nil && *m != corev1.PersistentVolumeFilesystem {
		errs = append(errs, field.Forbidden(at.Child("volumeMode"), "may not specify volumeMode other than "+string(corev1.PersistentVolumeFilesystem)+inline))
	}
	return append(errs, validateShape(s, at)...)
}

// validateShape checks what volumes have everywhere.
func validateShape(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	modes := at.Child("accessModes")
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(modes, ""))
	}
	errs = append(errs, validateAccessModes(s.AccessModes, modes)...)
	errs = append(errs, validateSource(&s.PersistentVolumeSource, at)...)
	if c := s.VolumeAttributesClassName; c != nil {
		if *c == "" {
			errs = append(errs, field.Required(at.Child("volumeAttributesClassName"), "an empty string is disallowed"))
		}
		errs = append(errs, ValidateClass(*c, at.Child("volumeAttributesClassName"))...)
		if s.CSI == nil {
			errs = append(errs, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	return errs
}

// validateAffinity checks from which nodes a volume can be reached; a local one must say.
func validateAffinity(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	switch {
	case s.NodeAffinity == nil && s.Local != nil:
		return field.ErrorList{field.Required(at, "Local volume requires node affinity")}
	case s.NodeAffinity == nil:
		return nil
	case s.NodeAffinity.Required == nil:
		return field.ErrorList{field.Required(at.Child("required"), "must specify required node constraints")}
	}
	return podspec.ValidateNodeSelector(s.NodeAffinity.Required, at.Child("required"))
}
