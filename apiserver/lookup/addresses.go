package lookup

import (
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"pilothouse.dev/apiserver/allocator"
	"pilothouse.dev/apiserver/storage"
)

// Addresses tell the allocator what there is: services, the objects of addresses, and ranges.
type Addresses struct {
	look   *Lookup
	ranges *View[*networkingv1.ServiceCIDR, []netip.Prefix, []netip.Prefix]
}

// NewAddresses makes it; asking begins later.
func NewAddresses(l *Lookup) *Addresses {
	return &Addresses{l, NewView(l, networkingv1.SchemeGroupVersion.WithResource("servicecidrs"), usable,
		func(all [][]netip.Prefix) []netip.Prefix { return slices.Concat(all...) })}
}

// usable are the ranges of a ServiceCIDR when services may get addresses of it.
func usable(c *networkingv1.ServiceCIDR) []netip.Prefix {
	if c.DeletionTimestamp != nil || !meta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
		return nil
	}
	var all []netip.Prefix
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil { // what is none was refused
			all = append(all, p)
		}
	}
	return all
}

// ServiceRanges are the ranges of ServiceCIDRs that are ready, as fresh as the watch cache.
func (a *Addresses) ServiceRanges(ctx context.Context) ([]netip.Prefix, error) {
	return a.ranges.Get(ctx)
}

// TakenAddresses are all addresses that have an IPAddress, in the newest state.
func (a *Addresses) TakenAddresses(ctx context.Context) ([]allocator.Taken, error) {
	objects, err := list[*networkingv1.IPAddress](ctx, a.look, networkingv1.SchemeGroupVersion.WithResource("ipaddresses"), storage.Selector{}, storage.Read{})
	if err != nil {
		return nil, err
	}
	all := make([]allocator.Taken, 0, len(objects))
	for _, o := range objects {
		ip, err := netip.ParseAddr(o.Name)
		if err != nil {
			continue // no such name is ever stored
		}
		t := allocator.Taken{IP: ip, UID: string(o.UID)}
		if owner, ours := allocator.OwnerOf(o); ours {
			t.Ours, t.Owner = true, owner
		}
		all = append(all, t)
	}
	return all, nil
}

// ServiceAddresses are the cluster IPs and node ports that services have, in the newest state.
func (a *Addresses) ServiceAddresses(ctx context.Context) ([]allocator.Use, error) {
	services, err := a.look.Services(ctx)
	if err != nil {
		return nil, err
	}
	uses := make([]allocator.Use, 0, len(services))
	for _, s := range services {
		uses = append(uses, use(s))
	}
	return uses, nil
}

func use(s *corev1.Service) allocator.Use {
	u := allocator.Use{Namespace: s.Namespace, Name: s.Name}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, text := range ips {
		if ip, err := netip.ParseAddr(text); err == nil { // None and empty are no addresses
			u.IPs = append(u.IPs, ip)
		}
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			u.Ports = append(u.Ports, int(p.NodePort))
		}
	}
	if n := s.Spec.HealthCheckNodePort; n != 0 {
		u.Ports = append(u.Ports, int(n))
	}
	return u
}
