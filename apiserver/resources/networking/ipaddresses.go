package networking

import (
	"fmt"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// IPAddresses say which object has an address, which is their name.
var IPAddresses = registry.Define(registry.Kind[*networkingv1.IPAddress]{
	Group: group, Version: "v1", Kind: "IPAddress", Plural: "ipaddresses", Short: []string{"ip"},
	Name:     canonicalIP,
	Validate: validateIPAddress,
	ValidateUpdate: func(a, old *networkingv1.IPAddress) field.ErrorList {
		return apivalidation.ValidateImmutableField(a.Spec.ParentRef, old.Spec.ParentRef, field.NewPath("spec", "parentRef"))
	},
	Columns: []registry.Column[*networkingv1.IPAddress]{
		{Name: "ParentRef", Description: "The object that has the address.", Value: func(a *networkingv1.IPAddress) any { return parent(a.Spec.ParentRef) }},
		registry.Age[*networkingv1.IPAddress](),
	},
})

// canonicalIP checks a name that must be an address as everybody would write it. Names are never generated of it.
func canonicalIP(name string, _ bool) []string {
	ip, err := netip.ParseAddr(name)
	if err != nil || ip.Zone() != "" || ip.Is4In6() {
		return []string{"must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"}
	}
	if ip.String() != name {
		return []string{fmt.Sprintf("must be in canonical form (%q)", ip)}
	}
	return nil
}

func parent(r *networkingv1.ParentReference) string {
	if r == nil {
		return none
	}
	parts := []string{strings.ToLower(schema.GroupResource{Group: r.Group, Resource: r.Resource}.String())}
	if r.Namespace != "" {
		parts = append(parts, r.Namespace)
	}
	return strings.Join(append(parts, r.Name), "/")
}

func validateIPAddress(a *networkingv1.IPAddress) field.ErrorList {
	at, r := field.NewPath("spec", "parentRef"), a.Spec.ParentRef
	if r == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if r.Group != "" {
		errs = append(errs, registry.Invalid(r.Group, validation.IsDNS1123Subdomain(r.Group), at.Child("group"))...)
	}
	errs = append(errs, segment(r.Resource, at.Child("resource"))...)
	errs = append(errs, segment(r.Name, at.Child("name"))...)
	if r.Namespace != "" {
		errs = append(errs, segment(r.Namespace, at.Child("namespace"))...)
	}
	return errs
}
