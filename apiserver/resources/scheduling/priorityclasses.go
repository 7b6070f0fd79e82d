// Package scheduling declares the kinds of the group scheduling.k8s.io, a file each.
package scheduling

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

const (
	systemPrefix = "system-"
	highestUser  = int32(1_000_000_000) // what is above is for the system
)

// systemClasses are the only ones whose names may begin with the prefix.
// https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
var systemClasses = map[string]int32{
	"system-cluster-critical": 2 * highestUser,
	"system-node-critical":    2*highestUser + 1000,
}

// PriorityClasses name how important pods are.
var PriorityClasses = registry.Define(registry.Kind[*schedulingv1.PriorityClass]{
	Group: "scheduling.k8s.io", Version: "v1", Kind: "PriorityClass", Plural: "priorityclasses", Short: []string{"pc"},
	Default: func(c *schedulingv1.PriorityClass) {
		if c.PreemptionPolicy == nil {
			c.PreemptionPolicy = ptr.To(corev1.PreemptLowerPriority)
		}
	},
	// What may change, like the description, is not counted.
	BeforeCreate:   func(c *schedulingv1.PriorityClass) { c.Generation = 1 },
	Validate:       validatePriorityClass,
	ValidateUpdate: validatePriorityClassUpdate,
	Columns: []registry.Column[*schedulingv1.PriorityClass]{
		{Name: "Value", Type: "integer", Description: "The priority of pods of this class.", Value: func(c *schedulingv1.PriorityClass) any { return int64(c.Value) }},
		{Name: "Global-Default", Type: "boolean", Description: "Whether pods without a class get it.", Value: func(c *schedulingv1.PriorityClass) any { return c.GlobalDefault }},
		registry.Age[*schedulingv1.PriorityClass](),
		{Name: "PreemptionPolicy", Description: "Whether its pods may push out others.", Value: func(c *schedulingv1.PriorityClass) any {
			return string(ptr.Deref(c.PreemptionPolicy, ""))
		}},
	},
})

func validatePriorityClass(c *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(c.Name, systemPrefix) {
		if why := notSystem(c); why != "" {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"),
				"priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+why))
		}
	} else if c.Value > highestUser {
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %d", highestUser)))
	}
	if p := c.PreemptionPolicy; p != nil && *p != corev1.PreemptLowerPriority && *p != corev1.PreemptNever {
		at := field.NewPath("preemptionPolicy")
		if *p == "" {
			return append(errs, field.Required(at, ""))
		}
		errs = append(errs, field.NotSupported(at, *p, []corev1.PreemptionPolicy{corev1.PreemptLowerPriority, corev1.PreemptNever}))
	}
	return errs
}

// notSystem says why a class is not the system's one of its name; empty when it is.
func notSystem(c *schedulingv1.PriorityClass) string {
	value, known := systemClasses[c.Name]
	switch {
	case !known:
		return fmt.Sprintf("%v is not a known system priority class", c.Name)
	case c.Value != value:
		return fmt.Sprintf("value of %v PriorityClass must be %v", c.Name, value)
	case c.GlobalDefault:
		return fmt.Sprintf("globalDefault of %v PriorityClass must be false", c.Name)
	}
	return ""
}

func validatePriorityClassUpdate(c, old *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if c.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	return append(errs, apivalidation.ValidateImmutableField(c.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
}
