package quota

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Scopes are all that a quota demands of the objects it is about, those of spec.scopes and those of its selector.
func Scopes(q *corev1.ResourceQuota) []corev1.ScopedResourceSelectorRequirement {
	var all []corev1.ScopedResourceSelectorRequirement
	for _, s := range q.Spec.Scopes {
		all = append(all, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		all = append(all, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return all
}

// InScope says whether an object is what a requirement demands. Resources without scopes are in none.
func (m Meter) InScope(r corev1.ScopedResourceSelectorRequirement, o metav1.Object) bool {
	return m.kind != nil && m.kind.scope != nil && m.kind.scope(r, o)
}

// InScopes says whether an object is all that a quota demands.
func (m Meter) InScopes(q *corev1.ResourceQuota, o metav1.Object) bool {
	if len(q.Spec.Scopes) == 0 && q.Spec.ScopeSelector == nil {
		return true
	}
	return !slices.ContainsFunc(Scopes(q), func(r corev1.ScopedResourceSelectorRequirement) bool { return !m.InScope(r, o) })
}

// selects says whether a requirement selects what has these values; one of them is enough.
func selects(r corev1.ScopedResourceSelectorRequirement, values ...string) bool {
	switch r.Operator {
	case corev1.ScopeSelectorOpExists:
		return len(values) > 0
	case corev1.ScopeSelectorOpDoesNotExist:
		return len(values) == 0
	case corev1.ScopeSelectorOpIn:
		return slices.ContainsFunc(values, func(v string) bool { return slices.Contains(r.Values, v) })
	case corev1.ScopeSelectorOpNotIn:
		return len(values) == 0 || slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(r.Values, v) })
	}
	return false
}
