package resource

import (
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// ResourceClaims ask for devices, and say which were given.
var ResourceClaims = registry.Define(registry.Kind[*resourcev1.ResourceClaim]{
	Group: group, Version: version, Kind: "ResourceClaim", Plural: "resourceclaims",
	ReturnsDeleted: true,
	Namespaced:     true, Status: true,
	Default:      func(c *resourcev1.ResourceClaim) { defaultClaim(&c.Spec) },
	BeforeCreate: func(c *resourcev1.ResourceClaim) { c.Status = resourcev1.ResourceClaimStatus{} },
	BeforeStatus: dropGone,
	Validate: func(c *resourcev1.ResourceClaim) field.ErrorList {
		return validateClaim(&c.Spec, field.NewPath("spec"))
	},
	ValidateUpdate: func(c, old *resourcev1.ResourceClaim) field.ErrorList {
		return apivalidation.ValidateImmutableField(c.Spec, old.Spec, field.NewPath("spec"))
	},
	ValidateStatus: validateClaimStatus,
	Columns: []registry.Column[*resourcev1.ResourceClaim]{
		{Name: "State", Description: "What became of it: pending, allocated, reserved.", Value: func(c *resourcev1.ResourceClaim) any { return claimState(c) }},
		registry.Age[*resourcev1.ResourceClaim](),
	},
})

func claimState(c *resourcev1.ResourceClaim) string {
	var states []string
	if c.DeletionTimestamp != nil {
		states = append(states, "deleted")
	}
	switch {
	case c.Status.Allocation != nil && len(c.Status.ReservedFor) > 0:
		states = append(states, "allocated", "reserved")
	case c.Status.Allocation != nil:
		states = append(states, "allocated")
	case c.DeletionTimestamp == nil:
		states = append(states, "pending")
	}
	return strings.Join(states, ",")
}

func defaultClaim(s *resourcev1.ResourceClaimSpec) {
	amount := func(mode *resourcev1.DeviceAllocationMode, count *int64, tolerations []resourcev1.DeviceToleration) {
		if *mode == "" {
			*mode = resourcev1.DeviceAllocationModeExactCount
		}
		if *mode == resourcev1.DeviceAllocationModeExactCount && *count == 0 {
			*count = 1
		}
		defaultTolerations(tolerations)
	}
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		if e := r.Exactly; e != nil {
			amount(&e.AllocationMode, &e.Count, e.Tolerations)
		}
		for j := range r.FirstAvailable {
			sub := &r.FirstAvailable[j]
			amount(&sub.AllocationMode, &sub.Count, sub.Tolerations)
		}
	}
}

func defaultTolerations(all []resourcev1.DeviceToleration) {
	for i := range all {
		if all[i].Operator == "" {
			all[i].Operator = resourcev1.DeviceTolerationOpEqual
		}
	}
}

// deviceID names a device, or a share of one.
type deviceID struct{ driver, pool, device, share string }

func allocated(a *resourcev1.AllocationResult) sets.Set[deviceID] {
	out := sets.New[deviceID]()
	if a != nil {
		for _, r := range a.Devices.Results {
			out.Insert(deviceID{r.Driver, r.Pool, r.Device, string(ptr.Deref(r.ShareID, ""))})
		}
	}
	return out
}

func idOf(d *resourcev1.AllocatedDeviceStatus) deviceID {
	return deviceID{d.Driver, d.Pool, d.Device, ptr.Deref(d.ShareID, "")}
}

// dropGone forgets what was reported of devices that are no longer allocated.
func dropGone(c, old *resourcev1.ResourceClaim) {
	gone := allocated(old.Status.Allocation).Difference(allocated(c.Status.Allocation))
	if gone.Len() > 0 {
		c.Status.Devices = slices.DeleteFunc(slices.Clone(c.Status.Devices), func(d resourcev1.AllocatedDeviceStatus) bool { return gone.Has(idOf(&d)) })
	}
}

// requests are the names by which the rest of a claim may speak of its requests, and of what one would take instead.
func requests(s *resourcev1.ResourceClaimSpec) sets.Set[string] {
	out := sets.New[string]()
	for _, r := range s.Devices.Requests {
		out.Insert(r.Name)
		for _, sub := range r.FirstAvailable {
			out.Insert(r.Name + "/" + sub.Name)
		}
	}
	return out
}

func requestRef(names sets.Set[string]) func(*string, *field.Path) field.ErrorList {
	const why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
	return func(name *string, at *field.Path) field.ErrorList {
		parts := strings.Split(*name, "/")
		if len(parts) > 2 {
			return field.ErrorList{field.Invalid(at, *name, why)}
		}
		var errs field.ErrorList
		for _, p := range parts {
			errs = append(errs, label(p, at)...)
		}
		if !names.Has(*name) {
			errs = append(errs, field.Invalid(at, *name, why))
		}
		return errs
	}
}

func validateClaim(s *resourcev1.ResourceClaimSpec, spec *field.Path) field.ErrorList {
	at, d, ref := spec.Child("devices"), &s.Devices, requestRef(requests(s))
	errs := set(d.Requests, resourcev1.DeviceRequestsMaxSize, at.Child("requests"), func(r *resourcev1.DeviceRequest) string { return r.Name }, validateRequest)
	errs = append(errs, list(d.Constraints, resourcev1.DeviceConstraintsMaxSize, at.Child("constraints"), func(c *resourcev1.DeviceConstraint, at *field.Path) field.ErrorList {
		errs := set(c.Requests, resourcev1.DeviceRequestsMaxSize, at.Child("requests"), itself, ref)
		switch {
		case c.MatchAttribute != nil && c.DistinctAttribute != nil, c.MatchAttribute == nil && c.DistinctAttribute == nil:
			return append(errs, field.Required(at, "exactly one of `matchAttribute` or `distinctAttribute` is required"))
		case c.MatchAttribute != nil:
			return append(errs, qualified(string(*c.MatchAttribute), true, at.Child("matchAttribute"))...)
		}
		return append(errs, qualified(string(*c.DistinctAttribute), true, at.Child("distinctAttribute"))...)
	})...)
	return append(errs, list(d.Config, resourcev1.DeviceConfigMaxSize, at.Child("config"), func(c *resourcev1.DeviceClaimConfiguration, at *field.Path) field.ErrorList {
		errs := set(c.Requests, resourcev1.DeviceRequestsMaxSize, at.Child("requests"), itself, ref)
		return append(errs, configuration(&c.DeviceConfiguration, at)...)
	})...)
}

func validateRequest(r *resourcev1.DeviceRequest, at *field.Path) field.ErrorList {
	errs := label(r.Name, at.Child("name"))
	switch {
	case r.Exactly != nil && len(r.FirstAvailable) > 0:
		return append(errs, field.Invalid(at, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"))
	case r.Exactly != nil:
		e := r.Exactly
		return append(errs, wish{e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations, e.Capacity, e.DerivedAttributes}.validate(at.Child("exactly"))...)
	case len(r.FirstAvailable) == 0:
		return append(errs, field.Required(at, "exactly one of `exactly` or `firstAvailable` is required"))
	}
	return append(errs, set(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, at.Child("firstAvailable"),
		func(s *resourcev1.DeviceSubRequest) string { return s.Name },
		func(s *resourcev1.DeviceSubRequest, at *field.Path) field.ErrorList {
			errs := label(s.Name, at.Child("name"))
			return append(errs, wish{s.DeviceClassName, s.Selectors, s.AllocationMode, s.Count, s.Tolerations, s.Capacity, s.DerivedAttributes}.validate(at)...)
		})...)
}

// wish is what a request and a subrequest have in common.
type wish struct {
	class       string
	selectors   []resourcev1.DeviceSelector
	mode        resourcev1.DeviceAllocationMode
	count       int64
	tolerations []resourcev1.DeviceToleration
	capacity    *resourcev1.CapacityRequirements
	derived     []resourcev1.DeviceDerivedAttribute
}

func (w wish) validate(at *field.Path) field.ErrorList {
	errs := subdomain(w.class, at.Child("deviceClassName"))
	errs = append(errs, list(w.selectors, resourcev1.DeviceSelectorsMaxSize, at.Child("selectors"), selector)...)
	switch w.mode {
	case resourcev1.DeviceAllocationModeAll:
		if w.count != 0 {
			errs = append(errs, field.Invalid(at.Child("count"), w.count, "must not be specified when allocationMode is 'All'"))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if w.count <= 0 {
			errs = append(errs, field.Invalid(at.Child("count"), w.count, "must be greater than zero"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("allocationMode"), w.mode,
			[]resourcev1.DeviceAllocationMode{resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount}))
	}
	errs = append(errs, list(w.tolerations, resourcev1.DeviceTolerationsMaxLength, at.Child("tolerations"), toleration)...)
	if w.capacity != nil {
		for _, name := range sets.List(sets.KeySet(w.capacity.Requests)) {
			errs = append(errs, qualified(string(name), false, at.Child("capacity", "requests").Key(string(name)))...)
		}
	}
	return append(errs, set(w.derived, resourcev1.DeviceDerivedAttributesMaxSize, at.Child("derivedAttributes"),
		func(a *resourcev1.DeviceDerivedAttribute) resourcev1.FullyQualifiedName { return a.Name },
		func(a *resourcev1.DeviceDerivedAttribute, at *field.Path) field.ErrorList {
			errs := expression(a.Expression, at.Child("expression"))
			if a.Name == "" {
				return append(errs, field.Required(at.Child("name"), ""))
			}
			return append(errs, qualified(string(a.Name), true, at.Child("name"))...)
		})...)
}
