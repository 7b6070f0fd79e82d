package plugins

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func familyOf(ip netip.Addr) corev1.IPFamily {
	if ip.Is6() {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

// of is the range of a family, nil when the cluster has none.
func (p *serviceAddresses) of(family corev1.IPFamily) IPs {
	for _, r := range p.ips {
		if familyOf(r.CIDR().Addr()) == family {
			return r
		}
	}
	return nil
}

// settleFamilies fills ipFamilyPolicy and ipFamilies: from the addresses asked for, else from what the cluster has. What a service has is
// changed only where the writer says so: one that prefers two families does not get the second because the cluster has it since.
// (https://kubernetes.io/docs/concepts/services-networking/dual-stack/#services)
func (p *serviceAddresses) settleFamilies(s, old *corev1.Service) error {
	if prefersAsBefore(s, old) {
		return nil
	}
	if s.Spec.IPFamilyPolicy == nil {
		s.Spec.IPFamilyPolicy = policyOf(s)
	}
	single := *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	if single {
		becomeSingle(s, old)
	}
	errs := append(familiesMatch(s, old), p.familiesOfAddresses(s)...)
	if len(errs) > 0 {
		return invalidService(s, errs...)
	}
	if headless(s) && len(s.Spec.Selector) == 0 { // nobody but its owner knows what will be behind it: it may have families that the cluster has not
		p.firstFamily(s)
		if !single {
			secondFamily(s)
		}
		return nil
	}
	if errs := p.familiesThere(s); len(errs) > 0 {
		return invalidService(s, errs...)
	}
	p.firstFamily(s)
	if !single && len(p.ips) == 2 {
		secondFamily(s)
	}
	return nil
}

// prefersAsBefore says whether an update leaves a service that prefers two families with the addresses and families it has.
func prefersAsBefore(s, old *corev1.Service) bool {
	prefers := func(s *corev1.Service) bool {
		return s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack
	}
	return s.Spec.Type == old.Spec.Type && prefers(s) && prefers(old) &&
		slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) && slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies)
}

// policyOf is the policy of a service that names none.
func policyOf(s *corev1.Service) *corev1.IPFamilyPolicy {
	policy := corev1.IPFamilyPolicySingleStack
	if headless(s) && len(s.Spec.Selector) == 0 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	return &policy
}

// becomeSingle gives up the second family where it was the policy that changed and not the list.
func becomeSingle(s, old *corev1.Service) {
	if len(s.Spec.IPFamilies) == 2 && slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
		s.Spec.IPFamilies = s.Spec.IPFamilies[:1]
	}
	if len(s.Spec.ClusterIPs) == 2 && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1]
	}
}

// familiesMatch says where the policy contradicts the addresses and families: with one there can be one of each, and with two the second is not
// given up.
func familiesMatch(s, old *corev1.Service) (errs field.ErrorList) {
	path, policy := field.NewPath("spec", "ipFamilyPolicy"), *s.Spec.IPFamilyPolicy
	for _, c := range []struct {
		wrong bool
		words string
	}{
		{policy != corev1.IPFamilyPolicySingleStack && gaveUp(s.Spec.ClusterIPs, old.Spec.ClusterIPs), "must be 'SingleStack' to release the secondary cluster IP"},
		{policy != corev1.IPFamilyPolicySingleStack && gaveUp(s.Spec.IPFamilies, old.Spec.IPFamilies), "must be 'SingleStack' to release the secondary IP family"},
		{policy == corev1.IPFamilyPolicySingleStack && len(s.Spec.ClusterIPs) == 2, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"},
		{policy == corev1.IPFamilyPolicySingleStack && len(s.Spec.IPFamilies) == 2, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"},
	} {
		if c.wrong {
			errs = append(errs, field.Invalid(path, policy, c.words))
		}
	}
	return errs
}

// gaveUp says whether of two the first alone was kept.
func gaveUp[T comparable](list, old []T) bool {
	return len(old) == 2 && len(list) == 1 && list[0] == old[0]
}

// familiesOfAddresses adds the families of the addresses that are asked for.
func (p *serviceAddresses) familiesOfAddresses(s *corev1.Service) (errs field.ErrorList) {
	for i, text := range s.Spec.ClusterIPs {
		ip, err := netip.ParseAddr(text)
		if err != nil || i < len(s.Spec.IPFamilies) {
			continue // None, or refused by the kind's validation
		}
		if f := familyOf(ip); p.of(f) == nil {
			errs = append(errs, field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), s.Spec.ClusterIPs, string(f)+" is not configured on this cluster"))
		} else {
			s.Spec.IPFamilies = append(s.Spec.IPFamilies, f)
		}
	}
	return errs
}

// familiesThere says what of a service's wishes the cluster does not have.
func (p *serviceAddresses) familiesThere(s *corev1.Service) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	if policy := *s.Spec.IPFamilyPolicy; policy == corev1.IPFamilyPolicyRequireDualStack && len(p.ips) < 2 {
		errs = append(errs, field.Invalid(spec.Child("ipFamilyPolicy"), policy, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range s.Spec.IPFamilies {
		if (f == corev1.IPv4Protocol || f == corev1.IPv6Protocol) && p.of(f) == nil {
			errs = append(errs, field.Invalid(spec.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	return errs
}

// firstFamily is the cluster's first, for a service that names none.
func (p *serviceAddresses) firstFamily(s *corev1.Service) {
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{familyOf(p.ips[0].CIDR().Addr())}
	}
}

// secondFamily adds the other family.
func secondFamily(s *corev1.Service) {
	if len(s.Spec.IPFamilies) != 1 {
		return
	}
	other := corev1.IPv6Protocol
	if s.Spec.IPFamilies[0] == other {
		other = corev1.IPv4Protocol
	}
	s.Spec.IPFamilies = append(s.Spec.IPFamilies, other)
}
