package changes

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// labelServiceProxyName marks a Service that another proxy takes care of.
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// family is the kind of addresses a Tracker looks at.
type family bool

const (
	ipv4 family = false
	ipv6 family = true
)

// parse reads an address if it is of the family.
func (f family) parse(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	a = a.Unmap()
	return a, a.Is6() == bool(f)
}

// servicePorts reads the ports of a Service that this node should offer,
// without endpoints; none for headless and external-name Services.
func servicePorts(svc *corev1.Service, f family) []Service {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if _, other := svc.Labels[labelServiceProxyName]; other {
		return nil
	}
	ip, ok := clusterIP(svc, f)
	if !ok {
		return nil
	}
	balancer := balancerAddresses(svc, f)
	base := Service{
		ClusterIP:     ip,
		External:      externalAddresses(svc, f, balancer),
		Affinity:      affinity(svc),
		InternalLocal: svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
	}
	outside := svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer || len(base.External) > 0
	base.ExternalLocal = outside && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if base.ExternalLocal && svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		base.HealthCheckNodePort = uint16(svc.Spec.HealthCheckNodePort)
	}

	if len(balancer) > 0 {
		if base.SourceRanges = sourceRanges(svc, f); len(base.SourceRanges) > 0 {
			base.LoadBalancer = balancer
		}
	}

	var out []Service
	for _, p := range svc.Spec.Ports {
		s := base
		s.Name = Name{Namespace: svc.Namespace, Service: svc.Name, Port: p.Name}
		s.Port, s.NodePort = uint16(p.Port), uint16(p.NodePort)
		switch p.Protocol {
		case corev1.ProtocolTCP, "":
			s.Protocol = TCP
		case corev1.ProtocolUDP:
			s.Protocol = UDP
		case corev1.ProtocolSCTP:
			s.Protocol = SCTP
		default:
			continue
		}
		out = append(out, s)
	}
	return out
}

// clusterIP finds the Service's address of the family.
func clusterIP(svc *corev1.Service, f family) (netip.Addr, bool) {
	for _, s := range svc.Spec.ClusterIPs {
		if a, ok := f.parse(s); ok {
			return a, true
		}
	}
	return f.parse(svc.Spec.ClusterIP)
}

// balancerAddresses are the load balancer's addresses that reach the Service
// through this node, sorted.
func balancerAddresses(svc *corev1.Service, f family) []netip.Addr {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	var out []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy {
			continue // the balancer wants to be passed through, not short-circuited
		}
		if a, ok := f.parse(in.IP); ok {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// externalAddresses are the external addresses and those of the load balancer, sorted.
func externalAddresses(svc *corev1.Service, f family, balancer []netip.Addr) []netip.Addr {
	out := slices.Clone(balancer)
	for _, s := range svc.Spec.ExternalIPs {
		if a, ok := f.parse(s); ok {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// sourceRanges are who may call the load balancer's addresses: what the field
// says, or else the annotation. None of this family: everybody of it may. The
// result is sorted, and no range is within another.
func sourceRanges(svc *corev1.Service, f family) []netip.Prefix {
	said := svc.Spec.LoadBalancerSourceRanges
	if len(said) == 0 {
		said = strings.Split(svc.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey], ",")
	}
	var out []netip.Prefix
	for _, s := range said {
		p, err := netip.ParsePrefix(strings.TrimSpace(s)) // the API lets spaces pass
		if err == nil && p.Addr().Is6() == bool(f) {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare) // a wider one comes before those within it
	var apart []netip.Prefix
	for _, p := range out {
		if !slices.ContainsFunc(apart, func(w netip.Prefix) bool { return w.Contains(p.Addr()) }) {
			apart = append(apart, p)
		}
	}
	if len(apart) == 1 && apart[0].Bits() == 0 {
		return nil // everybody
	}
	return apart
}

// affinity is how long a client stays with its endpoint.
func affinity(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	}
	return time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
}
