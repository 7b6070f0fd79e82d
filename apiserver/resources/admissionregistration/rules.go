package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// What webhooks and policies have in common: which requests they are for.

var (
	operations = sets.New(admissionregistrationv1.OperationAll, admissionregistrationv1.Create, admissionregistrationv1.Update,
		admissionregistrationv1.Delete, admissionregistrationv1.Connect)
	scopes        = sets.New(admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope)
	failures      = sets.New(admissionregistrationv1.Ignore, admissionregistrationv1.Fail)
	matchPolicies = sets.New(admissionregistrationv1.Exact, admissionregistrationv1.Equivalent)
	reinvocations = sets.New(admissionregistrationv1.NeverReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy)
)

const all = "*"

func defaultRule(r *admissionregistrationv1.Rule) {
	if r.Scope == nil {
		r.Scope = ptr.To(admissionregistrationv1.AllScopes)
	}
}

func fill[T any](p **T, otherwise T) {
	if *p == nil {
		*p = &otherwise
	}
}

// oneOf checks a value of an enumeration, where there is one.
func oneOf[T ~string](v *T, of sets.Set[T], at *field.Path) field.ErrorList {
	if v == nil || of.Has(*v) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, *v, sets.List(of))}
}

func validateSelector(s *metav1.LabelSelector, at *field.Path) field.ErrorList {
	return metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, at)
}

func validateRule(r *admissionregistrationv1.RuleWithOperations, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	ops := at.Child("operations")
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(ops, ""))
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionregistrationv1.OperationAll) {
		errs = append(errs, field.Invalid(ops, r.Operations, "if '*' is present, must not specify other operations"))
	}
	for i, op := range r.Operations {
		errs = append(errs, oneOf(&op, operations, ops.Index(i))...)
	}
	errs = append(errs, starAlone(r.APIGroups, at.Child("apiGroups"), "API groups")...)
	errs = append(errs, starAlone(r.APIVersions, at.Child("apiVersions"), "API versions")...)
	for i, v := range r.APIVersions {
		if v == "" {
			errs = append(errs, field.Required(at.Child("apiVersions").Index(i), ""))
		}
	}
	errs = append(errs, validateResources(r.Resources, at.Child("resources"))...)
	return append(errs, oneOf(r.Scope, scopes, at.Child("scope"))...)
}

func starAlone(list []string, at *field.Path, what string) field.ErrorList {
	switch {
	case len(list) == 0:
		return field.ErrorList{field.Required(at, "")}
	case len(list) > 1 && slices.Contains(list, all):
		return field.ErrorList{field.Invalid(at, list, "if '*' is present, must not specify other "+what)}
	}
	return nil
}

// validateResources checks resources and subresources: what a star has said already must not be said again.
func validateResources(list []string, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	bare := 0                                              // resources without a subresource
	ofRes, ofSub := sets.Set[string]{}, sets.Set[string]{} // RES of RES/* and SUB of */SUB so far
	for i, one := range list {
		if one == "" {
			errs = append(errs, field.Required(at.Index(i), ""))
			continue
		}
		res, sub, ok := strings.Cut(one, "/")
		if !ok {
			bare++
			continue
		}
		if ofRes.Has(res) {
			errs = append(errs, field.Invalid(at.Index(i), one, fmt.Sprintf("if '%s/*' is present, must not specify %s", res, one)))
		}
		if ofSub.Has(sub) {
			errs = append(errs, field.Invalid(at.Index(i), one, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, one)))
		}
		if sub == all {
			ofRes.Insert(res)
		}
		if res == all {
			ofSub.Insert(sub)
		}
	}
	if len(list) > 1 && slices.Contains(list, "*/*") {
		errs = append(errs, field.Invalid(at, list, "if '*/*' is present, must not specify other resources"))
	}
	if bare > 1 && slices.Contains(list, all) {
		errs = append(errs, field.Invalid(at, list, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	fill(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	fill(&m.NamespaceSelector, metav1.LabelSelector{})
	fill(&m.ObjectSelector, metav1.LabelSelector{})
	for i := range m.ResourceRules {
		defaultRule(&m.ResourceRules[i].Rule)
	}
	for i := range m.ExcludeResourceRules {
		defaultRule(&m.ExcludeResourceRules[i].Rule)
	}
}

func validateMatch(m *admissionregistrationv1.MatchResources, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m == nil {
		return nil
	}
	if m.MatchPolicy == nil {
		errs = append(errs, field.Required(at.Child("matchPolicy"), ""))
	}
	errs = append(errs, oneOf(m.MatchPolicy, matchPolicies, at.Child("matchPolicy"))...)
	for _, s := range []struct {
		selector *metav1.LabelSelector
		name     string
	}{{m.NamespaceSelector, "namespaceSelector"}, {m.ObjectSelector, "objectSelector"}} {
		if s.selector == nil {
			errs = append(errs, field.Required(at.Child(s.name), ""))
		} else {
			errs = append(errs, validateSelector(s.selector, at.Child(s.name))...)
		}
	}
	for i := range m.ResourceRules {
		errs = append(errs, validateNamedRule(&m.ResourceRules[i], at.Child("resourceRules").Index(i))...)
	}
	for i := range m.ExcludeResourceRules {
		errs = append(errs, validateNamedRule(&m.ExcludeResourceRules[i], at.Child("excludeResourceRules").Index(i))...)
	}
	return errs
}

func validateNamedRule(r *admissionregistrationv1.NamedRuleWithOperations, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, name := range r.ResourceNames {
		for _, msg := range content.IsPathSegmentName(name) {
			errs = append(errs, field.Invalid(at.Child("resourceNames").Index(i), name, msg))
		}
		if seen.Has(name) {
			errs = append(errs, field.Duplicate(at.Child("resourceNames").Index(i), name))
		}
		seen.Insert(name)
	}
	return append(errs, validateRule(&r.RuleWithOperations, at)...)
}
