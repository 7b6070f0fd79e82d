package admissionregistration

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What validating and mutating policies and their bindings have in common.

const unset = "<unset>"

var missing = sets.New(admissionregistrationv1.AllowAction, admissionregistrationv1.DenyAction)

func paramKindText(p *admissionregistrationv1.ParamKind) string {
	if p == nil {
		return unset
	}
	return p.APIVersion + "/" + p.Kind
}

func paramRefText(p *admissionregistrationv1.ParamRef) string {
	switch {
	case p == nil:
		return unset
	case p.Name != "" && p.Namespace != "":
		return p.Namespace + "/" + p.Name
	case p.Name != "":
		return p.Name
	}
	return metav1.FormatLabelSelector(p.Selector)
}

// validatePolicy checks what every policy's spec has.
func validatePolicy(failure *admissionregistrationv1.FailurePolicyType, param *admissionregistrationv1.ParamKind,
	match *admissionregistrationv1.MatchResources, variables []admissionregistrationv1.Variable,
	conditions []admissionregistrationv1.MatchCondition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if failure == nil {
		errs = append(errs, field.Required(at.Child("failurePolicy"), ""))
	}
	errs = append(errs, oneOf(failure, failures, at.Child("failurePolicy"))...)
	errs = append(errs, validateParamKind(param, at.Child("paramKind"))...)
	constraints := at.Child("matchConstraints")
	if match == nil {
		errs = append(errs, field.Required(constraints, ""))
	} else {
		errs = append(errs, validateMatch(match, constraints)...)
		if len(match.ResourceRules) == 0 {
			errs = append(errs, field.Required(constraints.Child("resourceRules"), ""))
		}
	}
	errs = append(errs, validateConditions(conditions, at.Child("matchConditions"))...)
	return append(errs, validateVariables(variables, at.Child("variables"))...)
}

func validateParamKind(p *admissionregistrationv1.ParamKind, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	if p.APIVersion == "" {
		errs = append(errs, field.Required(at.Child("apiVersion"), ""))
	} else if gv, err := schema.ParseGroupVersion(p.APIVersion); err != nil {
		errs = append(errs, field.Invalid(at.Child("apiVersion"), p.APIVersion, err.Error()))
	} else {
		if gv.Group != "" {
			for _, msg := range validation.IsDNS1123Subdomain(gv.Group) {
				errs = append(errs, field.Invalid(at.Child("apiVersion"), p.APIVersion, fmt.Sprintf("invalid API group: %s", msg)))
			}
		}
		for _, msg := range validation.IsDNS1035Label(gv.Version) {
			errs = append(errs, field.Invalid(at.Child("apiVersion"), p.APIVersion, fmt.Sprintf("invalid API version: %s", msg)))
		}
	}
	if p.Kind == "" {
		return append(errs, field.Required(at.Child("kind"), ""))
	}
	if msgs := validation.IsDNS1035Label(strings.ToLower(p.Kind)); len(msgs) > 0 {
		errs = append(errs, field.Invalid(at.Child("kind"), p.Kind, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
	}
	return errs
}

// validateBinding checks what every binding's spec has.
func validateBinding(policy string, param *admissionregistrationv1.ParamRef, match *admissionregistrationv1.MatchResources, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if policy == "" {
		errs = append(errs, field.Required(at.Child("policyName"), ""))
	} else {
		for _, msg := range apivalidation.NameIsDNSSubdomain(policy, false) {
			errs = append(errs, field.Invalid(at.Child("policyName"), policy, msg))
		}
	}
	errs = append(errs, validateParamRef(param, at.Child("paramRef"))...)
	return append(errs, validateMatch(match, at.Child("matchResources"))...)
}

func validateParamRef(p *admissionregistrationv1.ParamRef, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	if p.Name == "" && p.Selector == nil {
		errs = append(errs, field.Required(at, "one of name or selector must be specified"))
	}
	if p.Name != "" {
		for _, msg := range content.IsPathSegmentName(p.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), p.Name, msg))
		}
		if p.Selector != nil {
			errs = append(errs, field.Forbidden(at.Child("name"), "name and selector are mutually exclusive"))
		}
	}
	if p.Selector != nil {
		errs = append(errs, validateSelector(p.Selector, at.Child("selector"))...)
		if p.Name != "" {
			errs = append(errs, field.Forbidden(at.Child("selector"), "name and selector are mutually exclusive"))
		}
	}
	if p.ParameterNotFoundAction == nil {
		errs = append(errs, field.Required(at.Child("parameterNotFoundAction"), ""))
	}
	return append(errs, oneOf(p.ParameterNotFoundAction, missing, at.Child("parameterNotFoundAction"))...)
}
