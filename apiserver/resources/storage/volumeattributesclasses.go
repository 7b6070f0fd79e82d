package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/volumespec"
)

// VolumeAttributesClasses name settings of volumes that may change while they are in use.
var VolumeAttributesClasses = registry.Define(registry.Kind[*storagev1.VolumeAttributesClass]{
	Group: group, Version: "v1", Kind: "VolumeAttributesClass", Plural: "volumeattributesclasses", Short: []string{"vac"},
	ReturnsDeleted: true,
	Validate: func(c *storagev1.VolumeAttributesClass) field.ErrorList {
		errs := volumespec.ValidateDriver(c.DriverName, field.NewPath("driverName"))
		if len(c.Parameters) == 0 {
			errs = append(errs, field.Required(field.NewPath("parameters"), "must contain at least one key/value pair"))
		}
		return append(errs, validateParameters(c.Parameters, field.NewPath("parameters"))...)
	},
	ValidateUpdate: func(c, old *storagev1.VolumeAttributesClass) field.ErrorList {
		errs := apivalidation.ValidateImmutableField(c.DriverName, old.DriverName, field.NewPath("driverName"))
		return append(errs, apivalidation.ValidateImmutableField(c.Parameters, old.Parameters, field.NewPath("parameters"))...)
	},
	Columns: []registry.Column[*storagev1.VolumeAttributesClass]{
		{Name: "DriverName", Description: "The driver that knows the settings.", Value: func(c *storagev1.VolumeAttributesClass) any { return c.DriverName }},
		registry.Age[*storagev1.VolumeAttributesClass](),
	},
})
