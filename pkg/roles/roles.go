// Package roles is the one rule about cluster roles that two daemons must agree on: what an aggregated role consists of. The API
// server computes it for roles that it makes itself, the controller manager whenever a role changes; as both come to the same,
// neither writes over the other. Pure.
package roles

import (
	"cmp"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Union is the rules of all roles that an aggregated one selects, itself excepted: in the order of the roles' names, each rule
// once. The rules are shared with the roles. An error is a selector that cannot be read; a role without an aggregation rule has
// no union.
// See https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles
func Union(of *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	if of.AggregationRule == nil {
		return nil, nil
	}
	var selectors []labels.Selector
	for i := range of.AggregationRule.ClusterRoleSelectors {
		s, err := metav1.LabelSelectorAsSelector(&of.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, err
		}
		selectors = append(selectors, s)
	}
	parts := slices.DeleteFunc(slices.Clone(all), func(r *rbacv1.ClusterRole) bool {
		return r.Name == of.Name || !slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(labels.Set(r.Labels)) })
	})
	slices.SortFunc(parts, func(a, b *rbacv1.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
	var union []rbacv1.PolicyRule
	for _, r := range parts {
		for _, rule := range r.Rules {
			if !slices.ContainsFunc(union, func(u rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(u, rule) }) {
				union = append(union, rule)
			}
		}
	}
	return union, nil
}
