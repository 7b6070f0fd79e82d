package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/volumespec"
)

const longestNodeID = 192

// CSINodes say which drivers a node has. Their status is an alpha feature of the API (CSIVolumeHealth) and is dropped, as
// Kubernetes drops it by default.
var CSINodes = registry.Define(registry.Kind[*storagev1.CSINode]{
	Group: group, Version: "v1", Kind: "CSINode", Plural: "csinodes",
	ReturnsDeleted: true,
	BeforeCreate:   func(n *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} },
	BeforeUpdate:   func(n, _ *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} },
	Validate:       validateNode,
	ValidateUpdate: validateNodeUpdate,
	Columns: []registry.Column[*storagev1.CSINode]{
		{Name: "Drivers", Type: "integer", Description: "How many drivers it has.", Value: func(n *storagev1.CSINode) any { return int64(len(n.Spec.Drivers)) }},
		registry.Age[*storagev1.CSINode](),
	},
})

func validateNode(n *storagev1.CSINode) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i := range n.Spec.Drivers {
		d, at := &n.Spec.Drivers[i], field.NewPath("spec", "drivers").Index(i)
		errs = append(errs, validateNodeDriver(d, at)...)
		if seen.Has(d.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), d.Name))
		}
		seen.Insert(d.Name)
	}
	return errs
}

func validateNodeDriver(d *storagev1.CSINodeDriver, at *field.Path) field.ErrorList {
	errs := volumespec.ValidateDriver(d.Name, at.Child("name"))
	switch {
	case d.NodeID == "":
		errs = append(errs, field.Required(at.Child("nodeID"), d.NodeID))
	case len(d.NodeID) > longestNodeID:
		errs = append(errs, field.TooLong(at.Child("nodeID"), d.NodeID, longestNodeID))
	}
	if a := d.Allocatable; a != nil && a.Count != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*a.Count), at.Child("allocatable", "count"))...)
	}
	seen := sets.New[string]()
	for _, key := range d.TopologyKeys {
		if key == "" {
			errs = append(errs, field.Required(at, key))
		}
		if seen.Has(key) {
			errs = append(errs, field.Duplicate(at, key))
		}
		seen.Insert(key)
		errs = append(errs, registry.Invalid(key, validation.IsQualifiedName(key), at)...)
	}
	return errs
}

// validateNodeUpdate lets drivers come and go, and the number of volumes they can serve change.
func validateNodeUpdate(n, old *storagev1.CSINode) field.ErrorList {
	var errs field.ErrorList
	was := map[string]storagev1.CSINodeDriver{}
	for _, d := range old.Spec.Drivers {
		was[d.Name] = d
	}
	for i, d := range n.Spec.Drivers {
		before, known := was[d.Name]
		before.Allocatable = d.Allocatable
		if known && !apiequality.Semantic.DeepEqual(d, before) {
			errs = append(errs, field.Invalid(field.NewPath("spec", "drivers").Index(i), d, "field is immutable"))
		}
	}
	return errs
}
