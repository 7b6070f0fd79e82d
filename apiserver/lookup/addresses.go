package lookup

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/allocator"
)

// ServiceAddresses tells the repair loop which cluster IPs and node ports services have, in the newest state.
func (l *Lookup) ServiceAddresses(ctx context.Context) ([]allocator.Use, error) {
	services, err := l.Services(ctx)
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
