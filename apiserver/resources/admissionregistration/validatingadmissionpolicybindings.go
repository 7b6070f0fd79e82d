package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ValidatingAdmissionPolicyBindings say where a policy holds, with which parameters, and what happens then.
var ValidatingAdmissionPolicyBindings = registry.Define(registry.Kind[*admissionregistrationv1.ValidatingAdmissionPolicyBinding]{
	Group: group, Version: version, Kind: "ValidatingAdmissionPolicyBinding", Plural: "validatingadmissionpolicybindings",
	Categories: categories, Generation: true,
	Default: func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
	Validate: func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
		spec := field.NewPath("spec")
		errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources, spec)
		return append(errs, validateActions(b.Spec.ValidationActions, spec.Child("validationActions"))...)
	},
	Columns: []registry.Column[*admissionregistrationv1.ValidatingAdmissionPolicyBinding]{
		{Name: "PolicyName", Description: "The policy it binds.", Value: func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) any { return b.Spec.PolicyName }},
		{Name: "ParamRef", Description: "The policy's parameters.", Value: func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) any {
			return paramRefText(b.Spec.ParamRef)
		}},
		registry.Age[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](),
	},
})

var actions = sets.New(admissionregistrationv1.Deny, admissionregistrationv1.Warn, admissionregistrationv1.Audit)

func validateActions(list []admissionregistrationv1.ValidationAction, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "at least one validation action is required")}
	}
	var errs field.ErrorList
	seen := sets.New[admissionregistrationv1.ValidationAction]()
	for i, a := range list {
		errs = append(errs, oneOf(&a, actions, at.Index(i))...)
		if seen.Has(a) {
			errs = append(errs, field.Duplicate(at.Index(i), a))
		}
		seen.Insert(a)
	}
	if seen.HasAll(admissionregistrationv1.Deny, admissionregistrationv1.Warn) {
		errs = append(errs, field.Invalid(at, sets.List(seen),
			"must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"))
	}
	return errs
}
