package networking

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// NetworkPolicies say who may talk to some pods, and to whom they may.
var NetworkPolicies = registry.Define(registry.Kind[*networkingv1.NetworkPolicy]{
	Group: group, Version: "v1", Kind: "NetworkPolicy", Plural: "networkpolicies", Short: []string{"netpol"},
	Namespaced: true, Generation: true,
	Default:  defaultNetworkPolicy,
	Validate: validateNetworkPolicy,
	Warn:     func(p, _ *networkingv1.NetworkPolicy) []string { return warnBlocks(p) },
	Columns: []registry.Column[*networkingv1.NetworkPolicy]{
		{Name: "Pod-Selector", Description: "Which pods it is about.", Value: func(p *networkingv1.NetworkPolicy) any { return metav1.FormatLabelSelector(&p.Spec.PodSelector) }},
		registry.Age[*networkingv1.NetworkPolicy](),
	},
})

// defaultNetworkPolicy fills in what the policy is about: what comes in always, what goes out when it says anything of that.
func defaultNetworkPolicy(p *networkingv1.NetworkPolicy) {
	s := &p.Spec
	if len(s.PolicyTypes) == 0 {
		s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(s.Egress) > 0 {
			s.PolicyTypes = append(s.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	eachPolicyRule(s, func(ports []networkingv1.NetworkPolicyPort, _ []networkingv1.NetworkPolicyPeer, _, _ *field.Path) {
		for i := range ports {
			if ports[i].Protocol == nil {
				ports[i].Protocol = ptr.To(corev1.ProtocolTCP)
			}
		}
	})
}

// eachPolicyRule walks the rules for what comes in and what goes out, with the paths of their ports and peers.
func eachPolicyRule(s *networkingv1.NetworkPolicySpec, f func(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, portsAt, peersAt *field.Path)) {
	for i := range s.Ingress {
		at := field.NewPath("spec", "ingress").Index(i)
		f(s.Ingress[i].Ports, s.Ingress[i].From, at.Child("ports"), at.Child("from"))
	}
	for i := range s.Egress {
		at := field.NewPath("spec", "egress").Index(i)
		f(s.Egress[i].Ports, s.Egress[i].To, at.Child("ports"), at.Child("to"))
	}
}

func validateNetworkPolicy(p *networkingv1.NetworkPolicy) field.ErrorList {
	at, s := field.NewPath("spec"), &p.Spec
	errs := metav1validation.ValidateLabelSelector(&s.PodSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("podSelector"))
	eachPolicyRule(s, func(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, portsAt, peersAt *field.Path) {
		for i := range ports {
			errs = append(errs, validatePolicyPort(&ports[i], portsAt.Index(i))...)
		}
		for i := range peers {
			errs = append(errs, validatePeer(&peers[i], peersAt.Index(i))...)
		}
	})
	at = at.Child("policyTypes")
	known := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	if len(s.PolicyTypes) > len(known) {
		return append(errs, field.Invalid(at, s.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, t := range s.PolicyTypes {
		if t != known[0] && t != known[1] {
			errs = append(errs, field.NotSupported(at.Index(i), t, known))
		}
	}
	return errs
}

func validatePolicyPort(p *networkingv1.NetworkPolicyPort, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Protocol != nil {
		switch *p.Protocol {
		case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		default:
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}))
		}
	}
	end := at.Child("endPort")
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified"))
		}
	case p.Port.Type == intstr.String:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric"))
		}
		errs = append(errs, registry.Invalid(p.Port.StrVal, validation.IsValidPortName(p.Port.StrVal), at.Child("port"))...)
	default:
		errs = append(errs, registry.Invalid(p.Port.IntVal, validation.IsValidPortNum(int(p.Port.IntVal)), at.Child("port"))...)
		if p.EndPort == nil {
			break
		}
		if *p.EndPort < p.Port.IntVal {
			errs = append(errs, field.Invalid(end, *p.EndPort, "must be greater than or equal to `port`"))
		}
		errs = append(errs, registry.Invalid(*p.EndPort, validation.IsValidPortNum(int(*p.EndPort)), end)...)
	}
	return errs
}

func validatePeer(p *networkingv1.NetworkPolicyPeer, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	selected := p.PodSelector != nil || p.NamespaceSelector != nil
	if p.PodSelector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(p.PodSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("podSelector"))...)
	}
	if p.NamespaceSelector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(p.NamespaceSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("namespaceSelector"))...)
	}
	if p.IPBlock != nil {
		errs = append(errs, validateBlock(p.IPBlock, at.Child("ipBlock"))...)
	}
	switch {
	case !selected && p.IPBlock == nil:
		errs = append(errs, field.Required(at, "must specify a peer"))
	case selected && p.IPBlock != nil:
		errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
	}
	return errs
}

// validateBlock checks a range of addresses and the smaller ranges that are taken out of it.
func validateBlock(b *networkingv1.IPBlock, at *field.Path) field.ErrorList {
	if b.CIDR == "" {
		return field.ErrorList{field.Required(at.Child("cidr"), "")}
	}
	errs := validation.IsValidCIDRForLegacyField(at.Child("cidr"), b.CIDR, true, nil)
	_, all, err := netutils.ParseCIDRSloppy(b.CIDR)
	if err != nil {
		return errs // which says so
	}
	width, _ := all.Mask.Size()
	for i, e := range b.Except {
		at := at.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, e, true, nil)...)
		_, out, err := netutils.ParseCIDRSloppy(e)
		if err != nil {
			continue
		}
		if n, _ := out.Mask.Size(); !all.Contains(out.IP) || n <= width {
			errs = append(errs, field.Invalid(at, e, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}

func warnBlocks(p *networkingv1.NetworkPolicy) []string {
	var out []string
	eachPolicyRule(&p.Spec, func(_ []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, _, at *field.Path) {
		for i, peer := range peers {
			if peer.IPBlock == nil {
				continue
			}
			at := at.Index(i).Child("ipBlock")
			out = append(out, validation.GetWarningsForCIDR(at.Child("cidr"), peer.IPBlock.CIDR)...)
			for j, e := range peer.IPBlock.Except {
				out = append(out, validation.GetWarningsForCIDR(at.Child("except").Index(j), e)...)
			}
		}
	})
	return out
}
