package plugins

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/allocator"
)

// IPs are the cluster IPs of one family; CIDR is the first range of them. Errors are the allocator's.
type IPs interface {
	CIDR() netip.Prefix
	Allocate(ctx context.Context, ip netip.Addr, owner allocator.Owner) error
	AllocateNext(ctx context.Context, owner allocator.Owner) (netip.Addr, error)
	Release(ctx context.Context, ip netip.Addr, owner allocator.Owner) error
}

// Ports is the range of node ports. Errors are the allocator's.
type Ports interface {
	Allocate(ctx context.Context, port int) error
	AllocateNext(ctx context.Context) (int, error)
	Release(ctx context.Context, port int) error
}

// Ranges are an allocator's ranges of cluster IPs, as Parts wants them.
func Ranges(a *allocator.Allocator) []IPs {
	all := make([]IPs, len(a.IPs))
	for i, r := range a.IPs {
		all[i] = r
	}
	return all
}

// serviceAddresses gives services their cluster IPs and node ports, and takes back what they no longer have once that is
// stored. What was taken for a write that failed is given back; what even that misses, the allocator's repair finds.
type serviceAddresses struct {
	ips   []IPs
	ports Ports
}

func (*serviceAddresses) Name() string { return "ServiceAddresses" }

func (p *serviceAddresses) Mutate(ctx context.Context, a *admission.Attributes) error {
	if !a.Is("", "services") {
		return nil
	}
	s, _ := a.Object.(*corev1.Service)
	old, _ := a.Old.(*corev1.Service)
	switch a.Operation {
	case admission.Create:
		pluralize(s)
		return p.take(ctx, a, s, &corev1.Service{})
	case admission.Update:
		carry(s, old)
		drop(s, old)
		if err := p.take(ctx, a, s, old); err != nil {
			return err
		}
		p.leave(a, s, old)
	case admission.Delete:
		p.leave(a, &corev1.Service{}, old)
	}
	return nil
}

// take allocates what s needs and old does not have.
func (p *serviceAddresses) take(ctx context.Context, a *admission.Attributes, s, old *corev1.Service) error {
	if len(p.ips) > 0 && hasClusterIP(s) {
		if err := p.settleFamilies(s, old); err != nil {
			return err
		}
		if err := p.takeIPs(ctx, a, s, old); err != nil {
			return err
		}
	}
	if p.ports == nil {
		return nil
	}
	return p.takePorts(ctx, a, s, old)
}

// leave releases what old has and s does not, once s is stored.
func (p *serviceAddresses) leave(a *admission.Attributes, s, old *corev1.Service) {
	if a.DryRun {
		return
	}
	var ips []netip.Addr
	for _, ip := range addresses(old) {
		if !slices.Contains(addresses(s), ip) {
			ips = append(ips, ip)
		}
	}
	var ports []int
	for _, n := range nodePorts(old) {
		if !slices.Contains(nodePorts(s), n) {
			ports = append(ports, n)
		}
	}
	owner := ownerOf(old)
	a.OnStored(func(ctx context.Context) {
		for _, ip := range ips {
			p.releaseIP(ctx, ip, owner)
		}
		for _, n := range ports {
			p.releasePort(ctx, n)
		}
	})
}

// releaseIP gives an address back. That it could not be is not the writer's trouble: the repair loop will.
func (p *serviceAddresses) releaseIP(ctx context.Context, ip netip.Addr, owner allocator.Owner) {
	if r := p.of(familyOf(ip)); r != nil {
		_ = r.Release(ctx, ip, owner)
	}
}

func ownerOf(s *corev1.Service) allocator.Owner {
	return allocator.Owner{Namespace: s.Namespace, Name: s.Name}
}

func (p *serviceAddresses) releasePort(ctx context.Context, n int) {
	if p.ports != nil {
		_ = p.ports.Release(ctx, n) // as above
	}
}

// takeIPs fills clusterIPs, one a family, keeping what is asked for by name.
func (p *serviceAddresses) takeIPs(ctx context.Context, a *admission.Attributes, s, old *corev1.Service) error {
	if headless(s) || len(s.Spec.ClusterIPs) > len(s.Spec.IPFamilies) {
		return nil // the kind's validation says what is wrong with the latter
	}
	had, owner := addresses(old), ownerOf(s)
	for i, family := range s.Spec.IPFamilies {
		r := p.of(family)
		if r == nil {
			continue // refused by settleFamilies
		}
		if i < len(s.Spec.ClusterIPs) {
			text := s.Spec.ClusterIPs[i]
			ip, err := netip.ParseAddr(text)
			if err != nil || familyOf(ip) != family || slices.Contains(had, ip) {
				continue // a bad address, or one of another family, is refused by the kind's validation
			}
			if a.DryRun {
				continue
			}
			if err := r.Allocate(ctx, ip, owner); err != nil {
				return refuseIP(s, r, text, err)
			}
			a.OnUndo(func(ctx context.Context) { p.releaseIP(ctx, ip, owner) })
			continue
		}
		if a.DryRun {
			continue
		}
		ip, err := r.AllocateNext(ctx, owner)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP: %w", err))
		}
		a.OnUndo(func(ctx context.Context) { p.releaseIP(ctx, ip, owner) })
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, ip.String())
	}
	if len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIP == "" {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	return nil
}

func refuseIP(s *corev1.Service, r IPs, text string, err error) error {
	var outside *allocator.NotInRange
	why := ""
	switch {
	case errors.As(err, &outside):
		why = fmt.Sprintf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", text, r.CIDR())
	case errors.Is(err, allocator.ErrAllocated):
		why = fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", text)
	default:
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate IP %s: %w", text, err))
	}
	return invalidService(s, field.Invalid(field.NewPath("spec", "clusterIPs"), s.Spec.ClusterIPs, why))
}

// takePorts fills the node ports. Ports of one number and several protocols (DNS) get one node port.
func (p *serviceAddresses) takePorts(ctx context.Context, a *admission.Attributes, s, old *corev1.Service) error {
	taken := nodePorts(old) // also those given up by this write: they are still marked until it is stored
	one := func(want int, path *field.Path) (int, error) {
		if want != 0 && slices.Contains(taken, want) {
			return want, nil
		}
		if a.DryRun {
			return want, nil
		}
		got, err := want, error(nil)
		if want != 0 {
			err = p.ports.Allocate(ctx, want)
		} else {
			got, err = p.ports.AllocateNext(ctx)
		}
		if err != nil {
			return 0, refusePort(s, want, path, err)
		}
		taken = append(taken, got)
		a.OnUndo(func(ctx context.Context) { p.releasePort(ctx, got) })
		return got, nil
	}
	if hasNodePorts(s) {
		byPort := map[int32]int32{}
		// Those asked for by name first, so that their twins of another protocol find them.
		for _, named := range []bool{true, false} {
			for i := range s.Spec.Ports {
				port := &s.Spec.Ports[i]
				if (port.NodePort != 0) != named || !named && !choosesNodePorts(s) {
					continue
				}
				if twin := byPort[port.Port]; !named && twin != 0 {
					port.NodePort = twin
					continue
				}
				n, err := one(int(port.NodePort), field.NewPath("spec", "ports").Index(i).Child("nodePort"))
				if err != nil {
					return err
				}
				port.NodePort = int32(n)
				byPort[port.Port] = port.NodePort
			}
		}
	}
	if wantsHealthPort(s) {
		n, err := one(int(s.Spec.HealthCheckNodePort), field.NewPath("spec", "healthCheckNodePort"))
		if err != nil {
			return err
		}
		s.Spec.HealthCheckNodePort = int32(n)
	}
	return nil
}

func refusePort(s *corev1.Service, want int, path *field.Path, err error) error {
	var outside *allocator.NotInRange
	switch {
	case errors.As(err, &outside):
		return invalidService(s, field.Invalid(path, want, "provided port is not in the valid range. The range of valid ports is "+outside.Range))
	case errors.Is(err, allocator.ErrAllocated):
		return invalidService(s, field.Invalid(path, want, "provided port is already allocated"))
	}
	return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
}

func invalidService(s *corev1.Service, errs ...*field.Error) error {
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), s.Name, errs)
}
