package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ClusterRoles grant verbs on resources of any namespace and of none, and on paths that belong to no resource. One with an
// aggregation rule gets its rules from others, by a controller.
var ClusterRoles = registry.Define(registry.Kind[*rbacv1.ClusterRole]{
	Group: group, Version: "v1", Kind: "ClusterRole", Plural: "clusterroles",
	Name:     pathSegment,
	Validate: validateClusterRole,
	Columns:  []registry.Column[*rbacv1.ClusterRole]{createdAt[*rbacv1.ClusterRole]()},
})

func validateClusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	errs := validateRules(r.Rules, false)
	if r.AggregationRule == nil {
		return errs
	}
	at := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		errs = append(errs, metav1validation.ValidateLabelSelector(&r.AggregationRule.ClusterRoleSelectors[i],
			metav1validation.LabelSelectorValidationOptions{}, at.Index(i))...)
	}
	return errs
}
