package loadbalancer

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Pool is the ranges of which services get addresses, in the order in which they are used up.
type Pool []netip.Prefix

// ParsePool reads ranges with commas between; an empty text is no pool. They may not overlap each other.
func ParsePool(text string) (Pool, error) {
	var p Pool
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		r, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("--load-balancer-cidr: %q is no range of addresses: %w", part, err)
		}
		if r.Addr().Is4In6() || r != r.Masked() {
			return nil, fmt.Errorf("--load-balancer-cidr: %q is no range of addresses, %s would be", part, r.Masked())
		}
		if other, yes := p.overlaps(r); yes {
			return nil, fmt.Errorf("--load-balancer-cidr: %s and %s overlap", other, r)
		}
		p = append(p, r)
	}
	return p, nil
}

func (p Pool) overlaps(r netip.Prefix) (netip.Prefix, bool) {
	for _, have := range p {
		if have.Overlaps(r) {
			return have, true
		}
	}
	return netip.Prefix{}, false
}

// Apart is an error when the pool overlaps ranges that are something else's, which the flag named tells of.
func (p Pool) Apart(flag string, ranges []netip.Prefix) error {
	for _, r := range ranges {
		if have, yes := p.overlaps(r); yes {
			return fmt.Errorf("--load-balancer-cidr: %s overlaps %s of --%s", have, r, flag)
		}
	}
	return nil
}

func (p Pool) String() string {
	var texts []string
	for _, r := range p {
		texts = append(texts, r.String())
	}
	return strings.Join(texts, ",")
}

// gives says whether an address is one to give: in a range, and neither the name of an IPv4 network nor its broadcast address.
func (p Pool) gives(a netip.Addr) bool {
	for _, r := range p {
		if !r.Contains(a) {
			continue
		}
		if a.Is6() || r.Bits() >= 31 {
			return true
		}
		return a != r.Addr() && r.Contains(a.Next())
	}
	return false
}

// has says whether there is any range of a family.
func (p Pool) has(f corev1.IPFamily) bool {
	for _, r := range p {
		if familyOf(r.Addr()) == f {
			return true
		}
	}
	return false
}

// free is the first address of a family to give that nobody has.
func (p Pool) free(f corev1.IPFamily, taken func(netip.Addr) bool) (netip.Addr, bool) {
	for _, r := range p {
		if familyOf(r.Addr()) != f {
			continue
		}
		for a := r.Addr(); r.Contains(a); a = a.Next() {
			if p.gives(a) && !taken(a) {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
