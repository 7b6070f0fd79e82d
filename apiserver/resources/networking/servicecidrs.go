package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"pilothouse.dev/apiserver/registry"
)

// ServiceCIDRs are the ranges that services get their addresses from.
var ServiceCIDRs = registry.Define(registry.Kind[*networkingv1.ServiceCIDR]{
	Group: group, Version: "v1", Kind: "ServiceCIDR", Plural: "servicecidrs",
	Status:         true,
	BeforeCreate:   func(c *networkingv1.ServiceCIDR) { c.Status = networkingv1.ServiceCIDRStatus{} },
	Validate:       validateServiceCIDR,
	ValidateUpdate: validateServiceCIDRUpdate,
	ValidateStatus: func(c, _ *networkingv1.ServiceCIDR) field.ErrorList {
		return metav1validation.ValidateConditions(c.Status.Conditions, field.NewPath("status", "conditions"))
	},
	Columns: []registry.Column[*networkingv1.ServiceCIDR]{
		{Name: "CIDRs", Description: "The ranges.", Value: func(c *networkingv1.ServiceCIDR) any { return strings.Join(c.Spec.CIDRs, ",") }},
		registry.Age[*networkingv1.ServiceCIDR](),
	},
})

// validateServiceCIDR checks that there are one or two ranges, not of the same family.
func validateServiceCIDR(c *networkingv1.ServiceCIDR) field.ErrorList {
	var errs field.ErrorList
	at, cidrs := field.NewPath("spec", "cidrs"), c.Spec.CIDRs
	switch {
	case len(cidrs) == 0:
		return field.ErrorList{field.Required(at, "at least one CIDR required")}
	case len(cidrs) > 2:
		errs = append(errs, field.Invalid(at, cidrs, "may only hold up to 2 values"))
	case len(cidrs) == 2:
		// A range that is none is told of below.
		if dual, err := netutils.IsDualStackCIDRStrings(cidrs); err == nil && !dual {
			errs = append(errs, field.Invalid(at, cidrs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96"))
		}
	}
	for i, cidr := range cidrs {
		errs = append(errs, validation.IsValidCIDR(at.Index(i), cidr)...)
	}
	return errs
}

// validateServiceCIDRUpdate lets a second family be added, and nothing else.
func validateServiceCIDRUpdate(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	at, now, was := field.NewPath("spec", "cidrs"), c.Spec.CIDRs, old.Spec.CIDRs
	if len(now) != len(was) && (len(was) != 1 || len(now) != 2) {
		return field.ErrorList{field.Invalid(at, now, apivalidation.FieldImmutableErrorMsg)}
	}
	var errs field.ErrorList
	for i := range was {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(at.Index(i), now[i], apivalidation.FieldImmutableErrorMsg))
		}
	}
	return errs
}
