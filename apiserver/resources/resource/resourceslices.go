package resource

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// ResourceSlices are the devices that drivers offer, in pieces.
var ResourceSlices = registry.Define(registry.Kind[*resourcev1.ResourceSlice]{
	Group: group, Version: version, Kind: "ResourceSlice", Plural: "resourceslices",
	ReturnsDeleted: true,
	Generation:     true,
	Default: func(s *resourcev1.ResourceSlice) {
		for i := range s.Spec.Devices {
			for j := range s.Spec.Devices[i].Taints {
				defaultTaint(&s.Spec.Devices[i].Taints[j])
			}
		}
	},
	Validate: validateSlice,
	ValidateUpdate: func(s, old *resourcev1.ResourceSlice) field.ErrorList {
		spec := field.NewPath("spec")
		errs := apivalidation.ValidateImmutableField(s.Spec.Pool.Name, old.Spec.Pool.Name, spec.Child("pool", "name"))
		errs = append(errs, apivalidation.ValidateImmutableField(s.Spec.Driver, old.Spec.Driver, spec.Child("driver"))...)
		return append(errs, apivalidation.ValidateImmutableField(s.Spec.NodeName, old.Spec.NodeName, spec.Child("nodeName"))...)
	},
	Fields: func(s *resourcev1.ResourceSlice) fields.Set {
		return fields.Set{
			resourcev1.ResourceSliceSelectorNodeName: ptr.Deref(s.Spec.NodeName, ""), resourcev1.ResourceSliceSelectorDriver: s.Spec.Driver,
			resourcev1.ResourceSliceSelectorPoolName: s.Spec.Pool.Name,
		}
	},
	FieldNames: []string{resourcev1.ResourceSliceSelectorNodeName, resourcev1.ResourceSliceSelectorDriver, resourcev1.ResourceSliceSelectorPoolName},
	Columns: []registry.Column[*resourcev1.ResourceSlice]{
		{Name: "Node", Description: "Where the devices are.", Value: func(s *resourcev1.ResourceSlice) any {
			if s.Spec.NodeName == nil {
				return nil
			}
			return *s.Spec.NodeName
		}},
		{Name: "Driver", Description: "Whose devices they are.", Value: func(s *resourcev1.ResourceSlice) any { return s.Spec.Driver }},
		{Name: "Pool", Description: "What the slice is a piece of.", Value: func(s *resourcev1.ResourceSlice) any { return s.Spec.Pool.Name }},
		registry.Age[*resourcev1.ResourceSlice](),
	},
})

func validateSlice(s *resourcev1.ResourceSlice) field.ErrorList {
	spec, p := field.NewPath("spec"), &s.Spec
	errs := driver(p.Driver, spec.Child("driver"))
	errs = append(errs, pool(p.Pool.Name, spec.Child("pool", "name"))...)
	if n := p.Pool.ResourceSliceCount; n <= 0 {
		errs = append(errs, field.Invalid(spec.Child("pool", "resourceSliceCount"), n, "must be greater than zero"))
	}
	if n := p.Pool.Generation; n < 0 {
		errs = append(errs, field.Invalid(spec.Child("pool", "generation"), n, "must be greater than or equal to zero"))
	}
	where, more := place{p.NodeName, p.NodeSelector, p.AllNodes}.validate(spec, "must be either unset or set to a non-empty string")
	errs = append(errs, more...)
	if p.NodeSelector != nil && len(p.NodeSelector.NodeSelectorTerms) != 1 {
		errs = append(errs, field.Invalid(spec.Child("nodeSelector", "nodeSelectorTerms"), p.NodeSelector.NodeSelectorTerms, "must have exactly one node selector term"))
	}
	each := ptr.Deref(p.PerDeviceNodeSelection, false)
	if each {
		where = append(where, "`perDeviceNodeSelection`")
	} else if p.PerDeviceNodeSelection != nil {
		errs = append(errs, field.Invalid(spec.Child("perDeviceNodeSelection"), false, "must be either unset or set to true"))
	}
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	switch len(where) {
	case 0:
		errs = append(errs, field.Required(spec, one))
	case 1:
	default:
		errs = append(errs, field.Invalid(spec, "{"+strings.Join(where, ", ")+"}", one+", but multiple fields are set"))
	}
	if p.SharedCounters != nil && p.Devices != nil {
		errs = append(errs, field.Invalid(spec, "", "only one of `sharedCounters` or `devices` is allowed"))
	}
	if p.PartitionTypeAttribute != nil {
		errs = append(errs, qualified(string(*p.PartitionTypeAttribute), true, spec.Child("partitionTypeAttribute"))...)
	}
	errs = append(errs, skips(p.SkipNodeOperations, spec.Child("skipNodeOperations"))...)
	most := resourcev1.ResourceSliceMaxDevices
	if slices.ContainsFunc(p.Devices, func(d resourcev1.Device) bool { return len(d.Taints)+len(d.ConsumesCounters) > 0 }) {
		most = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	errs = append(errs, set(p.Devices, most, spec.Child("devices"), func(d *resourcev1.Device) string { return d.Name },
		func(d *resourcev1.Device, at *field.Path) field.ErrorList { return validateDevice(d, each, at) })...)
	return append(errs, set(p.SharedCounters, resourcev1.ResourceSliceMaxCounterSets, spec.Child("sharedCounters"),
		func(c *resourcev1.CounterSet) string { return c.Name },
		func(c *resourcev1.CounterSet, at *field.Path) field.ErrorList {
			return append(neededLabel(c.Name, at.Child("name")), counters(c.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet, at.Child("counters"))...)
		})...)
}

// place is where devices can be used; of a slice, or of one device.
type place struct {
	node     *string
	selector *corev1.NodeSelector
	all      *bool
}

// validate returns the names of the fields that say where.
func (p place) validate(at *field.Path, empty string) (where []string, errs field.ErrorList) {
	if p.node != nil && *p.node == "" {
		errs = append(errs, field.Invalid(at.Child("nodeName"), "", empty))
	} else if p.node != nil {
		where = append(where, "`nodeName`")
		errs = append(errs, invalid(at.Child("nodeName"), *p.node, apivalidation.NameIsDNSSubdomain(*p.node, false))...)
	}
	if p.selector != nil {
		where = append(where, "`nodeSelector`")
		errs = append(errs, podspec.ValidateNodeSelector(p.selector, at.Child("nodeSelector"))...)
	}
	if p.all != nil && *p.all {
		where = append(where, "`allNodes`")
	} else if p.all != nil {
		errs = append(errs, field.Invalid(at.Child("allNodes"), false, "must be either unset or set to true"))
	}
	return where, errs
}

// skips checks the operations that a node leaves out: who wants no preparation cannot want it undone.
func skips(ops []resourcev1.SkipNodeOperation, at *field.Path) field.ErrorList {
	known := sets.New(resourcev1.SkipNodeOperationNodePrepareResources, resourcev1.SkipNodeOperationNodeUnprepareResources, resourcev1.SkipNodeOperationAll)
	errs := set(ops, len(ops), at, itself, func(op *resourcev1.SkipNodeOperation, at *field.Path) field.ErrorList {
		if known.Has(*op) {
			return nil
		}
		return field.ErrorList{field.NotSupported(at, *op, sets.List(known))}
	})
	given := sets.New(ops...)
	if given.Has(resourcev1.SkipNodeOperationNodePrepareResources) && !given.HasAny(resourcev1.SkipNodeOperationNodeUnprepareResources, resourcev1.SkipNodeOperationAll) {
		errs = append(errs, field.Invalid(at, ops, fmt.Sprintf("%q cannot be specified unless %q is also listed",
			resourcev1.SkipNodeOperationNodePrepareResources, resourcev1.SkipNodeOperationNodeUnprepareResources)))
	}
	return errs
}

func counters(all map[string]resourcev1.Counter, most int, at *field.Path) field.ErrorList {
	switch n := len(all); {
	case n == 0:
		return field.ErrorList{field.Required(at, "")}
	case n > most:
		return field.ErrorList{field.TooMany(at, n, most)}
	}
	var errs field.ErrorList
	for _, name := range sets.List(sets.KeySet(all)) {
		errs = append(errs, label(name, at.Key(name))...)
	}
	return errs
}
