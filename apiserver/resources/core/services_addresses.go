package core

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	families        = sets.New(corev1.IPv4Protocol, corev1.IPv6Protocol)
	familyPolicies  = sets.New(corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)
	noneForExternal = "may not be set for ExternalName services"
)

// validateClusterIPs checks the addresses inside the cluster and their families for themselves; whether they are free is the
// allocator's business.
func validateClusterIPs(s *corev1.Service, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	single, plural := spec.Child("clusterIP"), spec.Child("clusterIPs")
	ips := s.Spec.ClusterIPs
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		if s.Spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(spec.Child("ipFamilyPolicy"), noneForExternal))
		}
		if len(s.Spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(spec.Child("ipFamilies"), noneForExternal))
		}
		if len(ips) > 0 {
			errs = append(errs, field.Forbidden(plural, noneForExternal))
		}
		if s.Spec.ClusterIP != "" {
			errs = append(errs, field.Forbidden(single, noneForExternal))
		}
		return errs
	}
	switch first := s.Spec.ClusterIP; {
	case first != "" && len(ips) == 0:
		errs = append(errs, field.Required(plural, ""))
	case first != "" && ips[0] != first:
		errs = append(errs, field.Invalid(plural, ips, "first value must match `clusterIP`"))
	case first == "" && len(ips) > 0:
		errs = append(errs, field.Invalid(plural, ips, "must be empty when `clusterIP` is not specified"))
	}
	errs = append(errs, validateFamilies(s, spec)...)
	if len(ips) > 2 {
		errs = append(errs, field.Invalid(plural, ips, "may only hold up to 2 values"))
	}
	var seen []bool // IPv6?
	for i, text := range ips {
		if text == corev1.ClusterIPNone {
			if len(ips) > 1 {
				errs = append(errs, field.Invalid(plural, ips, "'None' must be the first and only value"))
			}
			continue
		}
		if bad := validation.IsValidIPForLegacyField(plural.Index(i), text, true, nil); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		ip, err := netip.ParseAddr(text)
		if err != nil {
			continue // a form only the legacy check lets through
		}
		seen = append(seen, ip.Is6())
		if i < len(s.Spec.IPFamilies) && ip.Is6() != (s.Spec.IPFamilies[i] == corev1.IPv6Protocol) {
			errs = append(errs, field.Invalid(plural.Index(i), text, "expected an "+string(s.Spec.IPFamilies[i])+" value as indicated by `ipFamilies["+string(rune('0'+i))+"]`"))
		}
	}
	if len(seen) == 2 && seen[0] == seen[1] {
		errs = append(errs, field.Invalid(plural, ips, "may specify no more than one IP for each IP family"))
	}
	return errs
}

func validateFamilies(s *corev1.Service, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p := s.Spec.IPFamilyPolicy; p != nil && !familyPolicies.Has(*p) {
		errs = append(errs, field.NotSupported(spec.Child("ipFamilyPolicy"), *p, sets.List(familyPolicies)))
	}
	path := spec.Child("ipFamilies")
	if len(s.Spec.IPFamilies) > 2 {
		errs = append(errs, field.Invalid(path, s.Spec.IPFamilies, "may only hold up to 2 values"))
	}
	for i, f := range s.Spec.IPFamilies {
		if !families.Has(f) {
			errs = append(errs, field.NotSupported(path.Index(i), f, sets.List(families)))
		}
		if slices.Contains(s.Spec.IPFamilies[:i], f) {
			errs = append(errs, field.Duplicate(path.Index(i), f))
		}
	}
	return errs
}

// validateClusterIPChange lets addresses be added and given up with the type, and a second one at any time, but never
// exchanged.
func validateClusterIPChange(s, old *corev1.Service, spec *field.Path) field.ErrorList {
	if !hasClusterIP(s) || !hasClusterIP(old) {
		return nil
	}
	was, is := headless(old), headless(s)
	var errs field.ErrorList
	if !was || !is {
		errs = append(errs, validateKept(s.Spec.ClusterIPs, old.Spec.ClusterIPs, s, "clusterIP", spec)...)
	}
	if !was && !is {
		errs = append(errs, validateKept(s.Spec.IPFamilies, old.Spec.IPFamilies, s, "ipFamily", spec)...)
	}
	return errs
}

// validateKept checks that the first of a list stays, and that the second is given up on purpose.
func validateKept[T comparable](list, old []T, s *corev1.Service, word string, spec *field.Path) field.ErrorList {
	path := spec.Child(map[string]string{"clusterIP": "clusterIPs", "ipFamily": "ipFamilies"}[word])
	var errs field.ErrorList
	if len(old) > 0 && len(list) == 0 {
		return field.ErrorList{field.Invalid(path.Index(0), list, "primary "+word+" can not be unset")}
	}
	for i := range min(len(list), len(old)) {
		if list[i] != old[i] {
			errs = append(errs, field.Invalid(path.Index(i), list, "may not change once set"))
		}
	}
	if p := s.Spec.IPFamilyPolicy; len(old) == 2 && len(list) == 1 && (p == nil || *p != corev1.IPFamilyPolicySingleStack) {
		errs = append(errs, field.Invalid(spec.Child("ipFamilyPolicy"), p, "must be set to 'SingleStack' when releasing the secondary "+word))
	}
	return errs
}
