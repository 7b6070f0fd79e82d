package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ResourceQuotas bound what a namespace may use.
var ResourceQuotas = registry.Define(registry.Kind[*corev1.ResourceQuota]{
	Version: "v1", Kind: "ResourceQuota", Plural: "resourcequotas", Short: []string{"quota"},
	ReturnsDeleted: true,
	Namespaced:     true, Status: true,
	BeforeCreate:   func(q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} },
	Validate:       validateResourceQuota,
	ValidateUpdate: validateResourceQuotaUpdate,
	ValidateStatus: validateResourceQuotaStatus,
	Columns: []registry.Column[*corev1.ResourceQuota]{
		{Name: "Request", Description: "What is asked for or counted, of what may be.", Value: func(q *corev1.ResourceQuota) any { return quotaText(q, false) }},
		{Name: "Limit", Description: "What may be used, of what may be promised.", Value: func(q *corev1.ResourceQuota) any { return quotaText(q, true) }},
		registry.Age[*corev1.ResourceQuota](),
	},
})

// quotaText renders what is used of each resource: of limits, or of all others.
func quotaText(q *corev1.ResourceQuota, limits bool) string {
	var parts []string
	for _, name := range sets.List(sets.KeySet(q.Status.Hard)) {
		if strings.HasPrefix(string(name), "limits") == limits {
			used, hard := q.Status.Used[name], q.Status.Hard[name]
			parts = append(parts, fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String()))
		}
	}
	return strings.Join(parts, ", ")
}

func validateResourceQuota(q *corev1.ResourceQuota) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateQuotaList(q.Spec.Hard, spec.Child("hard"))
	errs = append(errs, validateQuotaScopes(q, spec.Child("scopes"))...)
	return append(errs, validateScopeSelector(q, spec.Child("scopeSelector", "matchExpressions"))...)
}

func validateQuotaList(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sets.List(sets.KeySet(list)) {
		at := path.Key(string(name))
		errs = append(errs, validateQuotaName(name, at)...)
		errs = append(errs, validateAmount(name, list[name], at)...)
	}
	return errs
}

var (
	podScopes = sets.New(corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
		corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeCrossNamespacePodAffinity)
	scopes    = podScopes.Clone().Insert(corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeVolumeAttributesClass)
	opposites = [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	}
)

// scopeFits says whether objects of a scope use a resource.
func scopeFits(scope corev1.ResourceQuotaScope, name corev1.ResourceName) bool {
	switch scope {
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage
	}
	return name == corev1.ResourcePods || podQuota.Has(name)
}

// unfit finds a limit of the quota that a scope has no use for.
func unfit(q *corev1.ResourceQuota, scope corev1.ResourceQuotaScope) bool {
	for name := range q.Spec.Hard {
		if isStandardQuota(name) && !scopeFits(scope, name) {
			return true
		}
	}
	return false
}

func conflicting(set sets.Set[corev1.ResourceQuotaScope]) bool {
	for _, pair := range opposites {
		if set.HasAll(pair[0], pair[1]) {
			return true
		}
	}
	return false
}

func validateQuotaScopes(q *corev1.ResourceQuota, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, scope := range q.Spec.Scopes {
		switch {
		case !scopes.Has(scope):
			errs = append(errs, field.Invalid(path, q.Spec.Scopes, "unsupported scope"))
		case unfit(q, scope):
			errs = append(errs, field.Invalid(path, q.Spec.Scopes, "unsupported scope applied to resource"))
		}
	}
	if conflicting(sets.New(q.Spec.Scopes...)) {
		errs = append(errs, field.Invalid(path, q.Spec.Scopes, "conflicting scopes"))
	}
	return errs
}

func validateScopeSelector(q *corev1.ResourceQuota, path *field.Path) field.ErrorList {
	if q.Spec.ScopeSelector == nil {
		return nil
	}
	var errs field.ErrorList
	set := sets.New[corev1.ResourceQuotaScope]()
	for _, r := range q.Spec.ScopeSelector.MatchExpressions {
		set.Insert(r.ScopeName)
		switch {
		case !scopes.Has(r.ScopeName):
			errs = append(errs, field.Invalid(path.Child("scopeName"), r.ScopeName, "unsupported scope"))
		case unfit(q, r.ScopeName):
			errs = append(errs, field.Invalid(path, q.Spec.ScopeSelector, "unsupported scope applied to resource"))
		}
		if podScopes.Has(r.ScopeName) && r.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(path.Child("operator"), r.Operator, "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "+
				"ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
		}
		switch r.Operator {
		case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(path.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
			}
		case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
			if len(r.Values) > 0 {
				errs = append(errs, field.Invalid(path.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
			}
		default:
			errs = append(errs, field.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator"))
		}
	}
	if conflicting(set) {
		errs = append(errs, field.Invalid(path, q.Spec.ScopeSelector, "conflicting scopes"))
	}
	return errs
}

// validateResourceQuotaUpdate keeps the scopes: what was counted under others would be counted no more.
func validateResourceQuotaUpdate(q, old *corev1.ResourceQuota) field.ErrorList {
	if sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec", "scopes"), q.Spec.Scopes, "field is immutable")}
}

func validateResourceQuotaStatus(q, _ *corev1.ResourceQuota) field.ErrorList {
	status := field.NewPath("status")
	errs := validateQuotaList(q.Status.Hard, status.Child("hard"))
	return append(errs, validateQuotaList(q.Status.Used, status.Child("used"))...)
}
