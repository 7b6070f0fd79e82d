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

// settleFamilies fills ipFamilyPolicy and ipFamilies: from the addresses asked for, else from what the cluster has.
func (p *serviceAddresses) settleFamilies(s, old *corev1.Service) error {
	spec := field.NewPath("spec")
	if headless(s) && len(s.Spec.Selector) == 0 { // nobody but its owner knows what will be behind it
		p.settleAny(s)
		return nil
	}
	for i, f := range s.Spec.IPFamilies {
		if (f == corev1.IPv4Protocol || f == corev1.IPv6Protocol) && p.of(f) == nil {
			return invalidService(s, field.Invalid(spec.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	if len(s.Spec.IPFamilies) == 0 {
		for _, ip := range addresses(s) {
			if f := familyOf(ip); p.of(f) != nil && !slices.Contains(s.Spec.IPFamilies, f) {
				s.Spec.IPFamilies = append(s.Spec.IPFamilies, f)
			}
		}
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{familyOf(p.ips[0].CIDR().Addr())}
	}
	if s.Spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if len(s.Spec.IPFamilies) > 1 || len(s.Spec.ClusterIPs) > 1 {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		s.Spec.IPFamilyPolicy = &policy
	}
	switch *s.Spec.IPFamilyPolicy {
	case corev1.IPFamilyPolicySingleStack:
		p.becomeSingle(s, old)
	case corev1.IPFamilyPolicyRequireDualStack:
		if len(p.ips) < 2 {
			return invalidService(s, field.Invalid(spec.Child("ipFamilyPolicy"), *s.Spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
		}
		p.becomeDual(s)
	case corev1.IPFamilyPolicyPreferDualStack:
		p.becomeDual(s)
	}
	return nil
}

// becomeSingle gives up the second family where it was the policy that changed and not the list.
func (p *serviceAddresses) becomeSingle(s, old *corev1.Service) {
	if old.Spec.IPFamilyPolicy == nil || *old.Spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack {
		return
	}
	if len(s.Spec.IPFamilies) == 2 && slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
		s.Spec.IPFamilies = s.Spec.IPFamilies[:1]
	}
	if len(s.Spec.ClusterIPs) == 2 && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1]
	}
}

// becomeDual adds the cluster's other family, if there is one.
func (p *serviceAddresses) becomeDual(s *corev1.Service) {
	for _, r := range p.ips {
		if f := familyOf(r.CIDR().Addr()); len(s.Spec.IPFamilies) < 2 && !slices.Contains(s.Spec.IPFamilies, f) {
			s.Spec.IPFamilies = append(s.Spec.IPFamilies, f)
		}
	}
}

// settleAny settles a service without selector and address, which may have endpoints of any family on any cluster.
func (p *serviceAddresses) settleAny(s *corev1.Service) {
	if s.Spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicyRequireDualStack
		if len(s.Spec.IPFamilies) == 1 {
			policy = corev1.IPFamilyPolicySingleStack
		}
		s.Spec.IPFamilyPolicy = &policy
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{familyOf(p.ips[0].CIDR().Addr())}
	}
	if *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack && len(s.Spec.IPFamilies) == 1 {
		other := corev1.IPv6Protocol
		if s.Spec.IPFamilies[0] == other {
			other = corev1.IPv4Protocol
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, other)
	}
}
