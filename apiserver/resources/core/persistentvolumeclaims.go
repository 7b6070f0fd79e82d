package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/volumespec"
)

// PersistentVolumeClaims ask for a volume. Whether a class lets its volumes grow is asked by admission.
var PersistentVolumeClaims = registry.Define(registry.Kind[*corev1.PersistentVolumeClaim]{
	Version: "v1", Kind: "PersistentVolumeClaim", Plural: "persistentvolumeclaims", Short: []string{"pvc"},
	ReturnsDeleted: true,
	Namespaced:     true, Status: true,
	Default: func(c *corev1.PersistentVolumeClaim) {
		volumespec.DefaultClaim(&c.Spec)
		volumespec.RoundUp(c.Status.Capacity)
		volumespec.RoundUp(c.Status.AllocatedResources)
		orPhase(&c.Status.Phase, corev1.ClaimPending)
	},
	BeforeCreate: func(c *corev1.PersistentVolumeClaim) {
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	},
	Validate: func(c *corev1.PersistentVolumeClaim) field.ErrorList {
		return volumespec.ValidateClaim(&c.Spec, field.NewPath("spec"))
	},
	ValidateUpdate: validateClaimUpdate,
	ValidateStatus: validateClaimStatus,
	Warn:           func(c, _ *corev1.PersistentVolumeClaim) []string { return warnClaim(c) },
	Columns: []registry.Column[*corev1.PersistentVolumeClaim]{
		{Name: "Status", Description: "Whether it has a volume.", Value: func(c *corev1.PersistentVolumeClaim) any {
			if c.DeletionTimestamp != nil {
				return terminating
			}
			return string(c.Status.Phase)
		}},
		{Name: "Volume", Description: "The volume it has.", Value: func(c *corev1.PersistentVolumeClaim) any { return c.Spec.VolumeName }},
		{Name: "Capacity", Description: "How much the volume holds.", Value: func(c *corev1.PersistentVolumeClaim) any {
			if c.Spec.VolumeName == "" {
				return ""
			}
			return storageText(c.Status.Capacity)
		}},
		{Name: "Access Modes", Description: "How the volume can be mounted.", Value: func(c *corev1.PersistentVolumeClaim) any {
			if c.Spec.VolumeName == "" {
				return ""
			}
			return volumespec.AccessModes(c.Status.AccessModes)
		}},
		{Name: "StorageClass", Description: "The class it asks for.", Value: func(c *corev1.PersistentVolumeClaim) any {
			return classOf(c.Annotations, ptr.Deref(c.Spec.StorageClassName, ""))
		}},
		{Name: "VolumeAttributesClass", Description: "The class of attributes it asks for.", Value: func(c *corev1.PersistentVolumeClaim) any {
			return ptr.Deref(c.Spec.VolumeAttributesClassName, unset)
		}},
		registry.Age[*corev1.PersistentVolumeClaim](),
		{Name: "VolumeMode", Priority: 1, Description: "Filesystem or Block.", Value: func(c *corev1.PersistentVolumeClaim) any {
			return string(ptr.Deref(c.Spec.VolumeMode, unset))
		}},
	},
})

func warnClaim(c *corev1.PersistentVolumeClaim) []string {
	var out []string
	if _, old := c.Annotations[corev1.BetaStorageClassAnnotation]; old {
		out = append(out, field.NewPath("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation).String()+
			`: deprecated since v1.8; use "storageClassName" attribute instead`)
	}
	for _, r := range []struct {
		name string
		list corev1.ResourceList
	}{{"requests", c.Spec.Resources.Requests}, {"limits", c.Spec.Resources.Limits}} {
		if q, ok := r.list[corev1.ResourceStorage]; ok && volumespec.Fractional(q) {
			out = append(out, fmt.Sprintf("spec.resources.%s[storage]: fractional byte value %q is invalid, must be an integer", r.name, q.String()))
		}
	}
	return out
}
