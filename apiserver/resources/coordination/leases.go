// Package coordination declares the kinds of the group coordination.k8s.io, a file each.
package coordination

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation"
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
	if s.Strategy != nil {
		errs = append(errs, validateStrategy(*s.Strategy, spec.Child("strategy"))...)
	}
	if s.PreferredHolder != nil && *s.PreferredHolder != "" && ptr.Deref(s.Strategy, "") == "" {
		errs = append(errs, field.Forbidden(spec.Child("preferredHolder"), "may only be specified if `strategy` is defined"))
	}
	return errs
}

// validateStrategy checks how a leader is chosen: as the API knows it, or in a way of somebody's own, with a domain before it.
func validateStrategy(name coordinationv1.CoordinatedLeaseStrategy, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case strings.Contains(string(name), "/"):
		for _, msg := range validation.IsQualifiedName(string(name)) {
			errs = append(errs, field.Invalid(at, name, msg))
		}
	case name != coordinationv1.OldestEmulationVersion:
		errs = append(errs, field.NotSupported(at, name, []coordinationv1.CoordinatedLeaseStrategy{coordinationv1.OldestEmulationVersion}))
	}
	return errs
}
