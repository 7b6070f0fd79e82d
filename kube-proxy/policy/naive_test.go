package policy

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// cluster is what the API holds. Its method allowed is the documentation of
// NetworkPolicy read aloud, without any of the room's code.
type cluster struct {
	namespaces map[string]*corev1.Namespace
	pods       map[string]*corev1.Pod // by namespace/name
	policies   map[string]*networkingv1.NetworkPolicy
	node       string
	local      []netip.Prefix
}

// at finds the pod that has an address.
func (c *cluster) at(a netip.Addr) *corev1.Pod {
	var best *corev1.Pod
	for _, p := range c.pods {
		if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			if netip.MustParseAddr(ip.IP) != a {
				continue
			}
			if best == nil || best.CreationTimestamp.Before(&p.CreationTimestamp) {
				best = p
			}
		}
	}
	return best
}

func (c *cluster) allowed(k packet) bool {
	from, to := c.at(k.from), c.at(k.to)
	if (from == nil || from.Spec.NodeName != c.node) && c.inLocalRange(k.from) && c.heldBack(networkingv1.PolicyTypeEgress) {
		return false
	}
	if !k.input && (to == nil || to.Spec.NodeName != c.node) && c.inLocalRange(k.to) && c.heldBack(networkingv1.PolicyTypeIngress) {
		return false
	}
	if k.from == k.to {
		return true
	}
	if from != nil && from.Spec.NodeName == c.node && !c.side(from, to, k.to, to, k, networkingv1.PolicyTypeEgress) {
		return false
	}
	if k.input || to == nil || to.Spec.NodeName != c.node {
		return true
	}
	return c.side(to, from, k.from, to, k, networkingv1.PolicyTypeIngress)
}

func (c *cluster) inLocalRange(a netip.Addr) bool {
	return slices.ContainsFunc(c.local, func(p netip.Prefix) bool { return p.Contains(a) })
}

// heldBack tells what becomes of pods of this node that are not known: README.md
// says so, not the documentation.
func (c *cluster) heldBack(d networkingv1.PolicyType) bool {
	expected := 0
	for _, p := range c.pods {
		if p.Spec.HostNetwork || p.Spec.NodeName != c.node || len(p.Status.PodIPs) > 0 || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		expected++
		if c.isolated(p, d) {
			return true
		}
	}
	return expected == 0
}

// isolated tells whether any policy isolates the pod.
func (c *cluster) isolated(p *corev1.Pod, d networkingv1.PolicyType) bool {
	for _, np := range c.policies {
		if np.Namespace == p.Namespace && matches(&np.Spec.PodSelector, p.Labels) && slices.Contains(typesOf(np), d) {
			return true
		}
	}
	return false
}

func typesOf(p *networkingv1.NetworkPolicy) []networkingv1.PolicyType {
	if len(p.Spec.PolicyTypes) > 0 {
		return p.Spec.PolicyTypes
	}
	types := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(p.Spec.Egress) > 0 {
		types = append(types, networkingv1.PolicyTypeEgress)
	}
	return types
}

// side tells whether the policies of one pod allow the packet in a direction.
func (c *cluster) side(self, other *corev1.Pod, otherAt netip.Addr, destination *corev1.Pod, k packet, d networkingv1.PolicyType) bool {
	isolated := false
	for _, p := range c.policies {
		if p.Namespace != self.Namespace || !matches(&p.Spec.PodSelector, self.Labels) {
			continue
		}
		if !slices.Contains(typesOf(p), d) {
			continue
		}
		isolated = true
		if d == networkingv1.PolicyTypeIngress {
			for _, r := range p.Spec.Ingress {
				if c.anyPeer(p.Namespace, r.From, other, otherAt) && anyPort(r.Ports, destination, k) {
					return true
				}
			}
		} else {
			for _, r := range p.Spec.Egress {
				if c.anyPeer(p.Namespace, r.To, other, otherAt) && anyPort(r.Ports, destination, k) {
					return true
				}
			}
		}
	}
	return !isolated
}

func (c *cluster) anyPeer(namespace string, peers []networkingv1.NetworkPolicyPeer, other *corev1.Pod, at netip.Addr) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		if p.IPBlock != nil {
			in := netip.MustParsePrefix(p.IPBlock.CIDR).Contains(at)
			for _, e := range p.IPBlock.Except {
				in = in && !netip.MustParsePrefix(e).Contains(at)
			}
			if in {
				return true
			}
			continue
		}
		if other == nil {
			continue
		}
		if p.NamespaceSelector != nil {
			ns := c.namespaces[other.Namespace]
			if ns == nil || !matches(p.NamespaceSelector, ns.Labels) {
				continue
			}
		} else if other.Namespace != namespace {
			continue
		}
		if p.PodSelector == nil || matches(p.PodSelector, other.Labels) {
			return true
		}
	}
	return false
}

func anyPort(ports []networkingv1.NetworkPolicyPort, destination *corev1.Pod, k packet) bool {
	if len(ports) == 0 {
		return true
	}
	numbers := map[corev1.Protocol]int{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17, corev1.ProtocolSCTP: 132}
	for _, p := range ports {
		proto := corev1.ProtocolTCP
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		if numbers[proto] != int(k.proto) {
			continue
		}
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.Int:
			last := p.Port.IntVal
			if p.EndPort != nil {
				last = *p.EndPort
			}
			if int32(k.port) >= p.Port.IntVal && int32(k.port) <= last {
				return true
			}
		case destination != nil:
			containers := slices.Clone(destination.Spec.Containers)
			for _, i := range destination.Spec.InitContainers {
				if i.RestartPolicy != nil {
					containers = append(containers, i)
				}
			}
			for _, x := range containers {
				for _, cp := range x.Ports {
					if cp.Name == p.Port.StrVal && cp.Protocol == proto && cp.ContainerPort == int32(k.port) {
						return true
					}
				}
			}
		}
	}
	return false
}

func matches(s *metav1.LabelSelector, set map[string]string) bool {
	for k, v := range s.MatchLabels {
		if have, ok := set[k]; !ok || have != v {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		v, has := set[e.Key]
		var ok bool
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			ok = has && slices.Contains(e.Values, v)
		case metav1.LabelSelectorOpNotIn:
			ok = !has || !slices.Contains(e.Values, v)
		case metav1.LabelSelectorOpExists:
			ok = has
		case metav1.LabelSelectorOpDoesNotExist:
			ok = !has
		}
		if !ok {
			return false
		}
	}
	return true
}
