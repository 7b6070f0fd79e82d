package plugins

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"pilothouse.dev/apiserver/admission"
)

// claimResize lets a claim grow only where its volume can
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims).
type claimResize struct{ classes StorageClasses }

func (*claimResize) Name() string { return "PersistentVolumeClaimResize" }

func (p *claimResize) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Update || !a.Is("", "persistentvolumeclaims") {
		return nil
	}
	claim, old := a.Object.(*corev1.PersistentVolumeClaim), a.Old.(*corev1.PersistentVolumeClaim)
	if claim.Spec.Resources.Requests.Storage().Cmp(*old.Spec.Resources.Requests.Storage()) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return forbid(a, "Only bound persistent volume claims can be expanded")
	}
	all, err := p.classes.StorageClasses(ctx)
	if err != nil {
		return err
	}
	name := classOf(claim)
	grows := name != "" && name == classOf(old) && slices.ContainsFunc(all, func(c *storagev1.StorageClass) bool {
		return c.Name == name && c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion
	})
	if !grows {
		return forbid(a, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
	}
	return nil
}

func classOf(c *corev1.PersistentVolumeClaim) string {
	if name, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return name
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}
