package node

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/network"
)

// connect gives the network this node's pod range and the ways to the others'. What fails is tried again at the next turn.
func (n *Node) connect(ctx context.Context, have *corev1.Node) {
	if cidr := have.Spec.PodCIDR; cidr != "" && (cidr != n.ranged || n.parts.Network.Ready() != nil) {
		prefix, err := netip.ParsePrefix(cidr)
		if err == nil {
			err = n.parts.Network.SetPodCIDRs(ctx, []netip.Prefix{prefix})
		}
		if err == nil {
			n.ranged = cidr
		}
		n.say(ctx, "making the pod network", err)
	}
	if n.ranged == "" {
		return
	}
	var nodes []*corev1.Node
	for _, obj := range n.parts.Nodes.GetStore().List() {
		nodes = append(nodes, obj.(*corev1.Node))
	}
	want := routes(n.cfg.Name, nodes)
	if n.routes != nil && slices.Equal(want, n.routes) {
		return
	}
	err := n.parts.Network.SetRoutes(ctx, want)
	if err == nil {
		n.routes = want
	}
	n.say(ctx, "setting routes to other nodes", err)
}

// routes lead to the pods of all nodes but this one, by the nodes' addresses; sorted, never nil.
func routes(own string, nodes []*corev1.Node) []network.Route {
	want := []network.Route{}
	for _, node := range nodes {
		cidr, err := netip.ParsePrefix(node.Spec.PodCIDR)
		if node.Name == own || err != nil {
			continue
		}
		for _, a := range node.Status.Addresses {
			via, err := netip.ParseAddr(a.Address)
			if a.Type == corev1.NodeInternalIP && err == nil && via.Is4() == cidr.Addr().Is4() {
				want = append(want, network.Route{CIDR: cidr, Via: via})
				break
			}
		}
	}
	slices.SortFunc(want, func(a, b network.Route) int { return strings.Compare(a.CIDR.String(), b.CIDR.String()) })
	return want
}
