package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// DeviceTaintRules taint devices from outside their driver.
var DeviceTaintRules = registry.Define(registry.Kind[*resourcev1.DeviceTaintRule]{
	Group: group, Version: version, Kind: "DeviceTaintRule", Plural: "devicetaintrules",
	Status: true, Generation: true,
	Default:      func(r *resourcev1.DeviceTaintRule) { defaultTaint(&r.Spec.Taint) },
	BeforeCreate: func(r *resourcev1.DeviceTaintRule) { r.Status = resourcev1.DeviceTaintRuleStatus{} },
	Validate: func(r *resourcev1.DeviceTaintRule) field.ErrorList {
		var errs field.ErrorList
		spec := field.NewPath("spec")
		if s := r.Spec.DeviceSelector; s != nil {
			at := spec.Child("deviceSelector")
			if s.Driver != nil {
				errs = append(errs, driver(*s.Driver, at.Child("driver"))...)
			}
			if s.Pool != nil {
				errs = append(errs, pool(*s.Pool, at.Child("pool"))...)
			}
			if s.Device != nil {
				errs = append(errs, label(*s.Device, at.Child("device"))...)
			}
		}
		return append(errs, taint(&r.Spec.Taint, spec.Child("taint"))...)
	},
	ValidateStatus: func(r, _ *resourcev1.DeviceTaintRule) field.ErrorList {
		at := field.NewPath("status", "conditions")
		errs := metav1validation.ValidateConditions(r.Status.Conditions, at)
		if n := len(r.Status.Conditions); n > resourcev1.DeviceTaintRuleStatusMaxConditions {
			errs = append(errs, field.TooMany(at, n, resourcev1.DeviceTaintRuleStatusMaxConditions))
		}
		return errs
	},
})

func defaultTaint(t *resourcev1.DeviceTaint) {
	if t.TimeAdded == nil {
		t.TimeAdded = ptr.To(metav1.Now().Rfc3339Copy())
	}
}
