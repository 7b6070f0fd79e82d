package resource

import (
	"fmt"
	"regexp"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// What a slice says of one device.

func validateDevice(d *resourcev1.Device, selects bool, at *field.Path) field.ErrorList {
	errs := label(d.Name, at.Child("name"))
	if n, most := len(d.Attributes)+len(d.Capacity), resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice; n > most {
		errs = append(errs, field.Invalid(at, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", most)))
	}
	values := 0
	for _, name := range sets.List(sets.KeySet(d.Attributes)) {
		a, one := d.Attributes[name], at.Child("attributes").Key(string(name))
		errs = append(errs, qualified(string(name), false, one)...)
		errs = append(errs, validateAttribute(&a, one)...)
		values += max(1, len(a.IntValues)+len(a.BoolValues)+len(a.StringValues)+len(a.VersionValues))
	}
	if most := resourcev1.ResourceSliceMaxAttributeValuesPerDevice; values > most {
		errs = append(errs, field.Invalid(at.Child("attributes"), values, fmt.Sprintf("the total number of attribute values must not exceed %d", most)))
	}
	shared := ptr.Deref(d.AllowMultipleAllocations, false)
	for _, name := range sets.List(sets.KeySet(d.Capacity)) {
		c, one := d.Capacity[name], at.Child("capacity").Key(string(name))
		errs = append(errs, qualified(string(name), false, one)...)
		if c.RequestPolicy == nil {
			continue
		}
		if !shared {
			errs = append(errs, field.Forbidden(one.Child("requestPolicy"), "allowMultipleAllocations must be true"))
		} else {
			errs = append(errs, validatePolicy(c.RequestPolicy, c.Value, one.Child("requestPolicy"))...)
		}
	}
	errs = append(errs, list(d.Taints, resourcev1.DeviceTaintsMaxLength, at.Child("taints"), taint)...)
	errs = append(errs, set(d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, at.Child("consumesCounters"),
		func(c *resourcev1.DeviceCounterConsumption) string { return c.CounterSet },
		func(c *resourcev1.DeviceCounterConsumption, at *field.Path) field.ErrorList {
			errs := neededLabel(c.CounterSet, at.Child("counterSet"))
			errs = append(errs, counters(c.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption, at.Child("counters"))...)
			return append(errs, set(c.CompatibilityGroups, resourcev1.DeviceCompatibilityGroupsMaxSize, at.Child("compatibilityGroups"), itself,
				func(g *string, at *field.Path) field.ErrorList { return label(*g, at) })...)
		})...)
	errs = append(errs, validateOwnPlace(d, selects, at)...)
	return append(errs, bindings(d.BindingConditions, d.BindingFailureConditions, at)...)
}

func validateOwnPlace(d *resourcev1.Device, selects bool, at *field.Path) field.ErrorList {
	if !selects {
		if d.NodeName == nil && d.NodeSelector == nil && d.AllNodes == nil {
			return nil
		}
		return field.ErrorList{field.Invalid(at, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec")}
	}
	where, errs := place{d.NodeName, d.NodeSelector, d.AllNodes}.validate(at, "must not be empty")
	const one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
	switch len(where) {
	case 0:
		errs = append(errs, field.Required(at, one))
	case 1:
	default:
		errs = append(errs, field.Invalid(at, "{"+strings.Join(where, ", ")+"}", one))
	}
	return errs
}

// semver is https://semver.org, version 2.0.0, point 9 and 10 included.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(?:-(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?$`)

func validateAttribute(a *resourcev1.DeviceAttribute, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	const most = resourcev1.DeviceAttributeMaxValueLength
	text := func(s *string, at *field.Path) field.ErrorList {
		if len(*s) > most {
			return field.ErrorList{field.TooLong(at, "", most)}
		}
		return nil
	}
	number := func(s *string, at *field.Path) field.ErrorList {
		errs := text(s, at)
		if !semver.MatchString(*s) {
			errs = append(errs, field.Invalid(at, *s, "must be a string compatible with semver.org spec 2.0.0"))
		}
		return errs
	}
	if a.StringValue != nil {
		errs = append(errs, text(a.StringValue, at.Child("string"))...)
	}
	if a.VersionValue != nil {
		errs = append(errs, number(a.VersionValue, at.Child("version"))...)
	}
	errs = append(errs, list(a.StringValues, len(a.StringValues), at.Child("strings"), text)...)
	errs = append(errs, list(a.VersionValues, len(a.VersionValues), at.Child("versions"), number)...)
	n := 0
	for _, is := range []bool{
		a.IntValue != nil, a.BoolValue != nil, a.StringValue != nil, a.VersionValue != nil,
		a.IntValues != nil, a.BoolValues != nil, a.StringValues != nil, a.VersionValues != nil,
	} {
		if is {
			n++
		}
	}
	if n != 1 {
		errs = append(errs, field.Invalid(at, "", "exactly one value must be specified"))
	}
	return errs
}

// validatePolicy checks in which amounts a capacity may be asked for.
func validatePolicy(p *resourcev1.CapacityRequestPolicy, whole resource.Quantity, at *field.Path) field.ErrorList {
	switch {
	case len(p.ValidValues) > 0 && p.ValidRange != nil:
		return field.ErrorList{field.Forbidden(at, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`)}
	case len(p.ValidValues) > 0 && p.Default == nil:
		return field.ErrorList{field.Required(at.Child("default"), "required when validValues is defined")}
	case p.ValidRange != nil && p.Default == nil:
		return field.ErrorList{field.Required(at.Child("default"), "required when validRange is defined")}
	case len(p.ValidValues) > 0:
		return validateValues(p, whole, at.Child("validValues"))
	case p.ValidRange != nil:
		return validateRange(p, whole, at.Child("validRange"))
	}
	return nil
}

const mostValues = 10

func validateValues(p *resourcev1.CapacityRequestPolicy, whole resource.Quantity, at *field.Path) field.ErrorList {
	var before *resource.Quantity
	found := false
	errs := set(p.ValidValues, mostValues, at, func(q *resource.Quantity) string { return q.String() }, func(q *resource.Quantity, at *field.Path) field.ErrorList {
		var errs field.ErrorList
		if before != nil && before.Cmp(*q) > 0 {
			errs = append(errs, field.Invalid(at, q.String(), "values must be sorted in ascending order"))
		}
		if q.Cmp(whole) > 0 {
			errs = append(errs, field.Invalid(at, q.String(), "option is larger than capacity value: "+whole.String()))
		}
		before, found = q, found || q.Cmp(*p.Default) == 0
		return errs
	})
	if !found {
		errs = append(errs, field.Invalid(at, p.Default.String(), "default value is not valid according to the requestPolicy"))
	}
	return errs
}

func validateRange(p *resourcev1.CapacityRequestPolicy, whole resource.Quantity, at *field.Path) field.ErrorList {
	r := p.ValidRange
	if r.Min == nil {
		return field.ErrorList{field.Required(at.Child("min"), "required when validRange is defined")}
	}
	var errs field.ErrorList
	more := func(a, b resource.Quantity, name, what string) {
		if a.Cmp(b) > 0 {
			errs = append(errs, field.Invalid(at.Child(name), a.String(), what+": "+b.String()))
		}
	}
	more(*r.Min, whole, "min", "min is larger than capacity value")
	if p.Default.Cmp(*r.Min) < 0 {
		errs = append(errs, field.Invalid(at.Child("min"), p.Default.String(), "default is less than min: "+r.Min.String()))
	}
	if r.Max != nil {
		more(*r.Min, *r.Max, "max", "min is larger than max")
		more(*r.Max, whole, "max", "max is larger than capacity value")
		more(*p.Default, *r.Max, "max", "default is more than max")
	}
	if r.Step == nil {
		return errs
	}
	if r.Step.Sign() <= 0 {
		return append(errs, field.Invalid(at.Child("step"), r.Step.String(), "must be greater than zero"))
	}
	next := r.Min.DeepCopy()
	next.Add(*r.Step)
	if next.Cmp(whole) > 0 {
		errs = append(errs, field.Invalid(at.Child("step"), r.Step.String(), fmt.Sprintf("one step %s is larger than capacity value: %s", next.String(), whole.String())))
	}
	for _, q := range []*resource.Quantity{p.Default, r.Max} {
		if q != nil && (q.Value()-r.Min.Value())%r.Step.Value() != 0 {
			errs = append(errs, field.Invalid(at.Child("step"), q.String(), fmt.Sprintf("value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String())))
		}
	}
	return errs
}
