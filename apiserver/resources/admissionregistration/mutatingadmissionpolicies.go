package admissionregistration

import (
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// MutatingAdmissionPolicies change writes by CEL expressions, where a binding says so.
var MutatingAdmissionPolicies = registry.Define(registry.Kind[*admissionregistrationv1.MutatingAdmissionPolicy]{
	Group: group, Version: version, Kind: "MutatingAdmissionPolicy", Plural: "mutatingadmissionpolicies",
	Categories: categories, Generation: true,
	Default: func(p *admissionregistrationv1.MutatingAdmissionPolicy) {
		fill(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	},
	Validate: validateMutatingPolicy,
	Columns: []registry.Column[*admissionregistrationv1.MutatingAdmissionPolicy]{
		{Name: "Mutations", Type: "integer", Description: "How many mutations it has.", Value: func(p *admissionregistrationv1.MutatingAdmissionPolicy) any {
			return int64(len(p.Spec.Mutations))
		}},
		{Name: "ParamKind", Description: "The kind of its parameters.", Value: func(p *admissionregistrationv1.MutatingAdmissionPolicy) any {
			return paramKindText(p.Spec.ParamKind)
		}},
		registry.Age[*admissionregistrationv1.MutatingAdmissionPolicy](),
	},
})

var patchTypes = sets.New(admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)

func validateMutatingPolicy(p *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
	spec, s := field.NewPath("spec"), &p.Spec
	errs := validatePolicy(s.FailurePolicy, s.ParamKind, s.MatchConstraints, s.Variables, s.MatchConditions, spec)
	errs = append(errs, noDeletes(s.MatchConstraints, spec.Child("matchConstraints"))...)
	if len(s.Mutations) == 0 {
		errs = append(errs, field.Required(spec.Child("mutations"), "mutations must contain at least one item"))
	}
	for i := range s.Mutations {
		errs = append(errs, validateMutation(&s.Mutations[i], spec.Child("mutations").Index(i))...)
	}
	if s.ReinvocationPolicy == "" {
		return append(errs, field.Required(spec.Child("reinvocationPolicy"), ""))
	}
	return append(errs, oneOf(&s.ReinvocationPolicy, reinvocations, spec.Child("reinvocationPolicy"))...)
}

// noDeletes refuses rules about deletions: there is nothing to change then.
func noDeletes(m *admissionregistrationv1.MatchResources, at *field.Path) field.ErrorList {
	if m == nil {
		return nil
	}
	var errs field.ErrorList
	but := operations.Clone().Delete(admissionregistrationv1.Delete)
	rules := func(list []admissionregistrationv1.NamedRuleWithOperations, at *field.Path) {
		for i := range list {
			if j := slices.Index(list[i].Operations, admissionregistrationv1.Delete); j >= 0 {
				errs = append(errs, field.NotSupported(at.Index(i).Child("operations").Index(j), admissionregistrationv1.Delete, sets.List(but)))
			}
		}
	}
	rules(m.ResourceRules, at.Child("resourceRules"))
	rules(m.ExcludeResourceRules, at.Child("excludeResourceRules"))
	return errs
}

// validateMutation wants the expression that the patch type names, and no other.
func validateMutation(m *admissionregistrationv1.Mutation, at *field.Path) field.ErrorList {
	if m.PatchType == "" {
		return field.ErrorList{field.Required(at.Child("patchType"), "")}
	}
	if !patchTypes.Has(m.PatchType) {
		return field.ErrorList{field.NotSupported(at.Child("patchType"), m.PatchType, sets.List(patchTypes))}
	}
	var errs field.ErrorList
	one := func(kind admissionregistrationv1.PatchType, name string, set bool, expression func() string) {
		path := at.Child(name)
		switch {
		case m.PatchType != kind && set:
			errs = append(errs, field.Invalid(path, "{"+name+"}", "must not be specified when patchType is "+string(m.PatchType)))
		case m.PatchType == kind && !set:
			errs = append(errs, field.Required(path, "must be specified when patchType is "+string(kind)))
		case m.PatchType == kind && blank(expression()):
			errs = append(errs, field.Required(path.Child("expression"), "expression is not specified"))
		}
	}
	one(admissionregistrationv1.PatchTypeApplyConfiguration, "applyConfiguration", m.ApplyConfiguration != nil, func() string { return m.ApplyConfiguration.Expression })
	one(admissionregistrationv1.PatchTypeJSONPatch, "jsonPatch", m.JSONPatch != nil, func() string { return m.JSONPatch.Expression })
	return errs
}
