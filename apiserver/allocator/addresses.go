package allocator

import (
	"context"
	"fmt"
	"math/big"
	"net/netip"
	"strings"

	"pilothouse.dev/apiserver/storage"
)

// IPs are the addresses of one CIDR but its first, and in IPv4 its last.
type IPs struct {
	pool *pool
	cidr netip.Prefix
}

// maxIPs bounds the bitmaps of a large range: only its first million addresses are given.
const maxIPs = 1 << 20

func newIPs(store storage.Store, cidr netip.Prefix) (*IPs, error) {
	cidr = cidr.Masked()
	bits := cidr.Addr().BitLen() - cidr.Bits()
	if !cidr.IsValid() || bits < 2 {
		return nil, fmt.Errorf("%s is no range for cluster IPs", cidr)
	}
	all := maxIPs
	if bits < 20 {
		all = 1 << bits
	}
	size := all - 1
	if cidr.Addr().Is4() && bits <= 20 {
		size--
	}
	name := strings.NewReplacer("/", "-", ":", "-").Replace(cidr.String())
	return &IPs{newPool(store, "ips."+name, size, static(all, 16, 16, 256)), cidr}, nil
}

// CIDR is the whole range.
func (p *IPs) CIDR() netip.Prefix { return p.cidr }

// Contains says whether ip is of this range and may be given.
func (p *IPs) Contains(ip netip.Addr) bool {
	_, ok := p.number(ip)
	return ok
}

// Allocate marks ip. ErrAllocated, *NotInRange.
func (p *IPs) Allocate(ctx context.Context, ip netip.Addr) error {
	n, ok := p.number(ip)
	if !ok {
		return fmt.Errorf("allocating %s: %w", ip, &NotInRange{p.cidr.String()})
	}
	if err := p.pool.allocate(ctx, n); err != nil {
		return fmt.Errorf("allocating %s: %w", ip, err)
	}
	return nil
}

// AllocateNext marks and returns a free address. ErrFull.
func (p *IPs) AllocateNext(ctx context.Context) (netip.Addr, error) {
	n, err := p.pool.allocateNext(ctx)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("allocating an address of %s: %w", p.cidr, err)
	}
	return p.addr(n), nil
}

// Release frees ip; one that is free already, or of another range, is no error.
func (p *IPs) Release(ctx context.Context, ip netip.Addr) error {
	n, ok := p.number(ip)
	if !ok {
		return nil
	}
	if err := p.pool.release(ctx, n); err != nil {
		return fmt.Errorf("releasing %s: %w", ip, err)
	}
	return nil
}

// number is the place of an address: number 0 is the second of the CIDR.
func (p *IPs) number(ip netip.Addr) (int, bool) {
	ip = ip.Unmap()
	if !p.cidr.Contains(ip) {
		return 0, false
	}
	d := new(big.Int).Sub(asInt(ip), asInt(p.cidr.Addr()))
	if !d.IsInt64() {
		return 0, false
	}
	n := d.Int64() - 1
	return int(n), n >= 0 && n < int64(p.pool.size)
}

func (p *IPs) addr(n int) netip.Addr {
	b := asInt(p.cidr.Addr())
	b.Add(b, big.NewInt(int64(n)+1))
	raw := make([]byte, p.cidr.Addr().BitLen()/8)
	ip, _ := netip.AddrFromSlice(b.FillBytes(raw))
	return ip
}

func asInt(ip netip.Addr) *big.Int { return new(big.Int).SetBytes(ip.AsSlice()) }
