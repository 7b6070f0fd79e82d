package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// MutatingAdmissionPolicyBindings say where a policy holds and with which parameters.
var MutatingAdmissionPolicyBindings = registry.Define(registry.Kind[*admissionregistrationv1.MutatingAdmissionPolicyBinding]{
	Group: group, Version: version, Kind: "MutatingAdmissionPolicyBinding", Plural: "mutatingadmissionpolicybindings",
	Categories: categories, Generation: true,
	Default: func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
	Validate: func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
		spec := field.NewPath("spec")
		errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources, spec)
		return append(errs, noDeletes(b.Spec.MatchResources, spec.Child("matchResources"))...)
	},
	Columns: []registry.Column[*admissionregistrationv1.MutatingAdmissionPolicyBinding]{
		{Name: "PolicyName", Description: "The policy it binds.", Value: func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) any { return b.Spec.PolicyName }},
		{Name: "ParamRef", Description: "The policy's parameters.", Value: func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) any {
			return paramRefText(b.Spec.ParamRef)
		}},
		registry.Age[*admissionregistrationv1.MutatingAdmissionPolicyBinding](),
	},
})
