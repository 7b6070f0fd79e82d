package plugins

import (
	"context"
	"slices"

	"pilothouse.dev/apiserver/admission"
)

// storageProtection keeps volumes and claims from vanishing while they are in use, by finalizers that the controller manager
// takes away when they are not
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection).
type storageProtection struct{}

func (storageProtection) Name() string { return "StorageObjectInUseProtection" }

func (storageProtection) Mutate(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create {
		return nil
	}
	var finalizer string
	switch {
	case a.Is("", "persistentvolumes"):
		finalizer = "kubernetes.io/pv-protection"
	case a.Is("", "persistentvolumeclaims"):
		finalizer = "kubernetes.io/pvc-protection"
	default:
		return nil
	}
	if have := a.Object.GetFinalizers(); !slices.Contains(have, finalizer) {
		a.Object.SetFinalizers(append(slices.Clone(have), finalizer))
	}
	return nil
}
