package announce

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// class is what a Service may name to be given addresses of the pool, beside naming none: the controller manager's word.
	class = "pilothouse.dev/pool"
	// labelServiceProxyName marks a Service that another proxy takes care of.
	labelServiceProxyName = "service.kubernetes.io/service-proxy-name"
	// taintToBeDeleted is put on a node by the cluster autoscaler before it goes.
	taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"
)

// balanced is a Service with addresses to announce.
type balanced struct {
	name      types.NamespacedName
	uid       types.UID
	addresses []netip.Addr // sorted
	local     bool         // only nodes with a pod of it may answer
}

func (b balanced) equal(o balanced) bool {
	return b.name == o.name && b.uid == o.uid && b.local == o.local && slices.Equal(b.addresses, o.addresses)
}

// readService finds what is to be announced for a Service: the addresses in the ranges, of a Service that this proxy serves and
// nobody else balances. Outside the ranges are addresses that a cloud gave, or a person: who answers for those is not ours to say.
func readService(svc *corev1.Service, ranges []netip.Prefix) (balanced, bool) {
	b := balanced{name: types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}, uid: svc.UID,
		local: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal}
	_, foreign := svc.Labels[labelServiceProxyName]
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || foreign || svc.Spec.ClusterIP == corev1.ClusterIPNone ||
		svc.Spec.LoadBalancerClass != nil && *svc.Spec.LoadBalancerClass != class {
		return b, false
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		a, err := netip.ParseAddr(in.IP)
		if err != nil || in.IPMode != nil && *in.IPMode != corev1.LoadBalancerIPModeVIP {
			continue // a name, or a balancer that sends on to nodes by their own addresses
		}
		a = a.Unmap()
		if a.Zone() == "" && slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(a) }) {
			b.addresses = append(b.addresses, a)
		}
	}
	slices.SortFunc(b.addresses, netip.Addr.Compare)
	b.addresses = slices.Compact(b.addresses)
	return b, len(b.addresses) > 0
}

// readNode says whether a node may answer.
func readNode(n *corev1.Node) node {
	_, excluded := n.Labels[corev1.LabelNodeExcludeBalancers]
	out := node{away: excluded || n.DeletionTimestamp != nil}
	for _, t := range n.Spec.Taints {
		out.away = out.away || t.Key == taintToBeDeleted
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.ready = c.Status == corev1.ConditionTrue
		}
	}
	return out
}

// addressesOf are a node's addresses of some kinds: by the internal ones its link is found.
func addressesOf(n *corev1.Node, kinds ...corev1.NodeAddressType) []netip.Addr {
	var out []netip.Addr
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && slices.Contains(kinds, a.Type) {
			out = append(out, ip.Unmap())
		}
	}
	return out
}
