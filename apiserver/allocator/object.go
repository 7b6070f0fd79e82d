package allocator

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// managedBy is the value of the label by which IPAddresses are known to be made here; Kubernetes' own, so that tools that look for
// it find them.
const managedBy = "ipallocator.k8s.io"

// ObjectOf is the IPAddress of a Service's address.
func ObjectOf(ip netip.Addr, owner Owner) *networkingv1.IPAddress {
	family := corev1.IPv4Protocol
	if ip.Is6() {
		family = corev1.IPv6Protocol
	}
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: ip.String(), Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: string(family), networkingv1.LabelManagedBy: managedBy,
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{
			Resource: "services", Namespace: owner.Namespace, Name: owner.Name,
		}},
	}
}

// OwnerOf is the Service that an IPAddress was made for here; false when others made it.
func OwnerOf(o *networkingv1.IPAddress) (Owner, bool) {
	ref := o.Spec.ParentRef
	if o.Labels[networkingv1.LabelManagedBy] != managedBy || ref == nil || ref.Group != "" || ref.Resource != "services" {
		return Owner{}, false
	}
	return Owner{ref.Namespace, ref.Name}, true
}
