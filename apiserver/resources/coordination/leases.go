// Package coordination declares the kinds of the group coordination.k8s.io, a file each.
package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// Leases say who leads, and that a node is alive.
var Leases = registry.Define(registry.Kind[*coordinationv1.Lease]{
	Group: "coordination.k8s.io", Version: "v1", Kind: "Lease", Plural: "leases",
	Namespaced: true,
	Validate:   validateLease,
	Columns: []registry.Column[*coordinationv1.Lease]{
		{Name: "Holder", Description: "Who holds it.", Value: func(l *coordinationv1.Lease) any { return ptr.Deref(l.Spec.HolderIdentity, "") }},
		registry.Age[*coordinationv1.Lease](),
	},
})

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	spec, s := field.NewPath("spec"), &l.Spec
	if s.LeaseDurationSeconds != nil && *s.LeaseDurationSeconds <= 0 {
		errs = append(errs, field.Invalid(spec.Child("leaseDurationSeconds"), *s.LeaseDurationSeconds, "must be greater than 0"))
	}
	if s.LeaseTransitions != nil && *s.LeaseTransitions < 0 {
		errs = append(errs, field.Invalid(spec.Child("leaseTransitions"), *s.LeaseTransitions, "must be greater than or equal to 0"))
	}
	known := sets.New(coordinationv1.OldestEmulationVersion)
	if s.Strategy != nil && !known.Has(*s.Strategy) {
		// Other strategies are legal, with a domain before them.
		errs = append(errs, metav1validation.ValidateLabelName(string(*s.Strategy), spec.Child("strategy"))...)
	}
	if s.PreferredHolder != nil && *s.PreferredHolder != "" && ptr.Deref(s.Strategy, "") == "" {
		errs = append(errs, field.Forbidden(spec.Child("preferredHolder"), "may only be specified if `strategy` is defined"))
	}
	return errs
}
