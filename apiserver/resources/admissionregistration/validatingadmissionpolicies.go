package admissionregistration

import (
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ValidatingAdmissionPolicies refuse writes by CEL expressions, where a binding says so.
var ValidatingAdmissionPolicies = registry.Define(registry.Kind[*admissionregistrationv1.ValidatingAdmissionPolicy]{
	Group: group, Version: version, Kind: "ValidatingAdmissionPolicy", Plural: "validatingadmissionpolicies",
	Categories: categories, Status: true, Generation: true,
	Default: func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
		fill(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	},
	BeforeCreate: func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
		p.Status = admissionregistrationv1.ValidatingAdmissionPolicyStatus{}
	},
	Validate:       validateValidatingPolicy,
	ValidateStatus: validatePolicyStatus,
	Columns: []registry.Column[*admissionregistrationv1.ValidatingAdmissionPolicy]{
		{Name: "Validations", Type: "integer", Description: "How many validations it has.", Value: func(p *admissionregistrationv1.ValidatingAdmissionPolicy) any {
			return int64(len(p.Spec.Validations))
		}},
		{Name: "ParamKind", Description: "The kind of its parameters.", Value: func(p *admissionregistrationv1.ValidatingAdmissionPolicy) any {
			return paramKindText(p.Spec.ParamKind)
		}},
		registry.Age[*admissionregistrationv1.ValidatingAdmissionPolicy](),
	},
})

const (
	mostAnnotations = 20
	longestValue    = 5 << 10 // of an annotation's expression
)

// The reasons that a refusal may give.
var reasons = sets.New(metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge, metav1.StatusReasonUnauthorized)

func validateValidatingPolicy(p *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	spec, s := field.NewPath("spec"), &p.Spec
	errs := validatePolicy(s.FailurePolicy, s.ParamKind, s.MatchConstraints, s.Variables, s.MatchConditions, spec)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		const need = "validations or auditAnnotations must contain at least one item"
		errs = append(errs, field.Required(spec.Child("validations"), need), field.Required(spec.Child("auditAnnotations"), need))
	}
	for i := range s.Validations {
		errs = append(errs, validateValidation(&s.Validations[i], spec.Child("validations").Index(i))...)
	}
	at := spec.Child("auditAnnotations")
	if n := len(s.AuditAnnotations); n > mostAnnotations {
		errs = append(errs, field.TooMany(at, n, mostAnnotations))
	}
	keys := sets.New[string]()
	for i, a := range s.AuditAnnotations {
		one := at.Index(i)
		if a.Key == "" {
			errs = append(errs, field.Required(one.Child("key"), ""))
		} else {
			// It becomes the name of an annotation in the policy's domain.
			for _, msg := range validation.IsQualifiedName(p.Name + "/" + a.Key) {
				errs = append(errs, field.Invalid(one.Child("key"), a.Key, "Audit annotation key must be a qualified name when prefixed by the policy's name: "+msg))
			}
		}
		if keys.Has(a.Key) {
			errs = append(errs, field.Duplicate(one.Child("key"), a.Key))
		}
		keys.Insert(a.Key)
		switch value := strings.TrimSpace(a.ValueExpression); {
		case value == "":
			errs = append(errs, field.Required(one.Child("valueExpression"), "valueExpression is not specified"))
		case len(value) > longestValue:
			errs = append(errs, field.TooLong(one.Child("valueExpression"), a.ValueExpression, longestValue))
		}
	}
	return errs
}

func validateValidation(v *admissionregistrationv1.Validation, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if blank(v.Expression) {
		errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
	}
	if v.MessageExpression != "" && blank(v.MessageExpression) {
		errs = append(errs, field.Invalid(at.Child("messageExpression"), v.MessageExpression, "must be non-empty if specified"))
	}
	lines := func(s string) bool { return strings.Contains(strings.TrimSpace(s), "\n") }
	switch {
	case v.Message != "" && blank(v.Message):
		errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must be non-empty if specified"))
	case lines(v.Message):
		errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must not contain line breaks"))
	case v.Message == "" && lines(v.Expression):
		errs = append(errs, field.Required(at.Child("message"), "message must be specified if expression contains line breaks"))
	}
	return append(errs, oneOf(v.Reason, reasons, at.Child("reason"))...)
}

func validatePolicyStatus(p, _ *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	var errs field.ErrorList
	status := field.NewPath("status")
	if p.Status.TypeChecking != nil {
		for i, w := range p.Status.TypeChecking.ExpressionWarnings {
			at := status.Child("typeChecking", "expressionWarnings").Index(i)
			if w.Warning == "" {
				errs = append(errs, field.Required(at.Child("warning"), ""))
			}
			if w.FieldRef == "" {
				errs = append(errs, field.Required(at.Child("fieldRef"), ""))
			}
		}
	}
	return append(errs, metav1validation.ValidateConditions(p.Status.Conditions, status.Child("conditions"))...)
}
