package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// CSIStorageCapacities say how much a driver can still make of a class, somewhere.
var CSIStorageCapacities = registry.Define(registry.Kind[*storagev1.CSIStorageCapacity]{
	Group: group, Version: "v1", Kind: "CSIStorageCapacity", Plural: "csistoragecapacities",
	Namespaced: true,
	Validate: func(c *storagev1.CSIStorageCapacity) field.ErrorList {
		errs := metav1validation.ValidateLabelSelector(c.NodeTopology, metav1validation.LabelSelectorValidationOptions{}, field.NewPath("nodeTopology"))
		errs = append(errs, registry.Invalid(c.StorageClassName, validation.IsDNS1123Subdomain(c.StorageClassName), field.NewPath("storageClassName"))...)
		errs = append(errs, notNegative(c.Capacity, field.NewPath("capacity"))...)
		return append(errs, notNegative(c.MaximumVolumeSize, field.NewPath("maximumVolumeSize"))...)
	},
	ValidateUpdate: func(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
		errs := apivalidation.ValidateImmutableField(c.NodeTopology, old.NodeTopology, field.NewPath("nodeTopology"))
		return append(errs, apivalidation.ValidateImmutableField(c.StorageClassName, old.StorageClassName, field.NewPath("storageClassName"))...)
	},
	Columns: []registry.Column[*storagev1.CSIStorageCapacity]{
		{Name: "StorageClassName", Description: "The class it is about.", Value: func(c *storagev1.CSIStorageCapacity) any { return c.StorageClassName }},
		{Name: "Capacity", Description: "How much there is.", Value: func(c *storagev1.CSIStorageCapacity) any {
			if c.Capacity == nil {
				return ""
			}
			return c.Capacity.String()
		}},
	},
})

func notNegative(q *resource.Quantity, at *field.Path) field.ErrorList {
	if q == nil || q.Sign() >= 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(at, q.String(), apivalidation.IsNegativeErrorMsg)}
}
