package csrapprove

import (
	"net/netip"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/pkg/pki"
)

// controlPlane is the label of nodes that may have the API server's address; no kubelet may set it on itself.
const controlPlane = "node-role.kubernetes.io/control-plane"

// serving says why a kubelet's serving certificate is approved; empty: it is not, or not yet. Kubernetes leaves this to people,
// since a kubelet writes the addresses of its Node itself and could so have itself made a certificate of anybody's address. Here
// the requester must be the node, the names no other than the node's own, and the addresses, written in its Node, such as no
// other node, no service and no API server has.
func (c *controller) serving(r *certificatesv1.CertificateSigningRequest) (why string, err error) {
	csr, err := pki.ParseRequest(r.Spec.Request)
	if err != nil || pki.CheckKubeletServing(csr, r.Spec.Usages) != nil || csr.Subject.CommonName != r.Spec.Username ||
		!slices.Contains(r.Spec.Groups, pki.NodesGroup) {
		return "", nil
	}
	node, err := c.nodes.Get(csr.Subject.CommonName[len(pki.NodeUserPrefix):])
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	all, err := c.nodes.List(labels.Everything())
	if err != nil {
		return "", err
	}
	servers, err := c.apiServers()
	if err != nil {
		return "", err
	}
	for _, name := range csr.DNSNames {
		if name != node.Name {
			return "", nil
		}
	}
	for _, ip := range csr.IPAddresses {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok || !c.own(addr.Unmap(), node, all, servers) {
			return "", nil
		}
	}
	return "Auto approving kubelet serving certificate of the node's own name and addresses.", nil
}

// own says whether an address is a node's and cannot be anybody else's.
func (c *controller) own(addr netip.Addr, node *corev1.Node, all []*corev1.Node, servers []netip.Addr) bool {
	if addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast() ||
		slices.ContainsFunc(c.cfg.Reserved, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return false
	}
	if _, trusted := node.Labels[controlPlane]; !trusted && slices.Contains(servers, addr) {
		return false
	}
	for _, n := range all {
		if has(n, addr) != (n.Name == node.Name) {
			return false
		}
	}
	return true
}

func has(n *corev1.Node, addr netip.Addr) bool {
	return slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			return false
		}
		ip, err := netip.ParseAddr(a.Address)
		return err == nil && ip.Unmap() == addr
	})
}

// apiServers are the addresses behind the service kubernetes.
func (c *controller) apiServers() ([]netip.Addr, error) {
	list, err := c.slices.EndpointSlices(metav1.NamespaceDefault).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: "kubernetes"}))
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, s := range list {
		for _, e := range s.Endpoints {
			for _, a := range e.Addresses {
				if ip, err := netip.ParseAddr(a); err == nil {
					out = append(out, ip.Unmap())
				}
			}
		}
	}
	return out, nil
}
