package pvbinder

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// best finds the volume for a claim that names none: one that names the claim, else of the available ones that satisfy it those
// with the fewest access modes that it did not ask for, and of these the smallest. With delay only the first counts: the rest is
// the scheduler's to choose. An error says that the claim's selector cannot be read.
func best(claim *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume, delay bool) (*corev1.PersistentVolume, error) {
	able := slices.DeleteFunc(slices.Clone(volumes), func(v *corev1.PersistentVolume) bool { return !volumehelpers.CheckAccessModes(claim, v) })
	slices.SortFunc(able, func(a, b *corev1.PersistentVolume) int {
		return cmp.Or(
			-compare(volumehelpers.IsVolumeBoundToClaim(a, claim), volumehelpers.IsVolumeBoundToClaim(b, claim)),
			cmp.Compare(len(a.Spec.AccessModes), len(b.Spec.AccessModes)),
			cmp.Compare(a.Name, b.Name),
		)
	})
	for len(able) > 0 {
		n := 1
		for n < len(able) && alike(claim, able[0], able[n]) {
			n++
		}
		found, err := volumehelpers.FindMatchingVolume(claim, able[:n], nil, nil, delay, true)
		if found != nil || err != nil {
			return found, err
		}
		able = able[n:]
	}
	return nil, nil
}

func compare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// alike says whether two volumes are equally good but for their size.
func alike(claim *corev1.PersistentVolumeClaim, a, b *corev1.PersistentVolume) bool {
	return len(a.Spec.AccessModes) == len(b.Spec.AccessModes) &&
		volumehelpers.IsVolumeBoundToClaim(a, claim) == volumehelpers.IsVolumeBoundToClaim(b, claim)
}

// satisfies says why a volume that a claim names cannot be the claim's, nil when it can.
func satisfies(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	wanted, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage]
	switch {
	case v.DeletionTimestamp != nil:
		return fmt.Errorf("the volume is marked for deletion %q", v.Name)
	case has.Cmp(wanted) < 0:
		return errors.New("requested PV is too small")
	case volumehelpers.GetPersistentVolumeClass(v) != volumehelpers.GetPersistentVolumeClaimClass(claim):
		return errors.New("storageClassName does not match")
	case ptr.Deref(v.Spec.VolumeAttributesClassName, "") != ptr.Deref(claim.Spec.VolumeAttributesClassName, ""):
		return errors.New("volumeAttributesClassName does not match")
	case volumehelpers.CheckVolumeModeMismatches(&claim.Spec, &v.Spec):
		return errors.New("incompatible volumeMode")
	case !volumehelpers.CheckAccessModes(claim, v):
		return errors.New("incompatible accessMode")
	}
	return nil
}

// Annotations that make a class the default.
const (
	defaultClass     = "storageclass.kubernetes.io/is-default-class"
	defaultClassBeta = "storageclass.beta.kubernetes.io/is-default-class"
)

func isDefault(c *storagev1.StorageClass) bool {
	return c.Annotations[defaultClass] == "true" || c.Annotations[defaultClassBeta] == "true"
}

// chooseDefault is the class for claims that name none: the newest default, by name among those of one second; nil when there is
// none.
func chooseDefault(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	var found *storagev1.StorageClass
	for _, c := range classes {
		if !isDefault(c) {
			continue
		}
		if found == nil || found.CreationTimestamp.Before(&c.CreationTimestamp) ||
			found.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < found.Name {
			found = c
		}
	}
	return found
}
