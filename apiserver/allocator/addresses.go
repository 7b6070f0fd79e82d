package allocator

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// IPs are the addresses of one family: those of the range that the server was started with, and those of the ServiceCIDRs that
// are ready. An address is taken when it has its IPAddress object, whoever made that.
type IPs struct {
	a   *Allocator
	own block
}

// CIDR is the range that the server was started with.
func (p *IPs) CIDR() netip.Prefix { return p.own.cidr }

// blocks are all ranges of the family that may be given of now, the server's own first.
func (p *IPs) blocks(ctx context.Context) ([]block, error) {
	all := []block{p.own}
	more, err := p.a.parts.Cluster.ServiceRanges(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the ranges of services: %w", err)
	}
	for _, cidr := range more {
		if cidr = cidr.Masked(); cidr.Addr().Is4() != p.own.cidr.Addr().Is4() || slices.ContainsFunc(all, func(b block) bool { return b.cidr == cidr }) {
			continue
		}
		if b, err := newBlock(cidr); err == nil { // one too small has no address to give
			all = append(all, b)
		}
	}
	return all, nil
}

// Allocate takes ip for a Service. ErrAllocated, *NotInRange.
func (p *IPs) Allocate(ctx context.Context, ip netip.Addr, owner Owner) error {
	ip = ip.Unmap()
	if err := p.a.settle(ctx); err != nil {
		return fmt.Errorf("allocating %s: %w", ip, err)
	}
	blocks, err := p.blocks(ctx)
	if err != nil {
		return fmt.Errorf("allocating %s: %w", ip, err)
	}
	if !slices.ContainsFunc(blocks, func(b block) bool { return b.has(ip) }) {
		return fmt.Errorf("allocating %s: %w", ip, &NotInRange{p.own.cidr.String()})
	}
	if err := p.a.take(ctx, ip, owner); err != nil {
		return fmt.Errorf("allocating %s: %w", ip, err)
	}
	return nil
}

// AllocateNext takes and returns a free address for a Service. ErrFull.
func (p *IPs) AllocateNext(ctx context.Context, owner Owner) (netip.Addr, error) {
	ip, err := p.next(ctx, owner)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("allocating an address of %s: %w", p.own.cidr, err)
	}
	return ip, nil
}

func (p *IPs) next(ctx context.Context, owner Owner) (netip.Addr, error) {
	if err := p.a.settle(ctx); err != nil {
		return netip.Addr{}, err
	}
	blocks, err := p.blocks(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	for looked := false; ; looked = true {
		for _, b := range blocks {
			ip, err := p.a.takeFrom(ctx, b, owner)
			if !errors.Is(err, ErrFull) {
				return ip, err
			}
		}
		if looked {
			return netip.Addr{}, ErrFull
		}
		// Full as far as we know: others may have freed some.
		if err := p.a.look(ctx); err != nil {
			return netip.Addr{}, err
		}
	}
}

// Release frees an address that a Service had; one that is free already, or something else's, is no error.
func (p *IPs) Release(ctx context.Context, ip netip.Addr, owner Owner) error {
	ip = ip.Unmap()
	if err := p.a.parts.Drop(ctx, ip, owner); err != nil {
		return fmt.Errorf("releasing %s: %w", ip, err)
	}
	p.a.known.set(ip, false)
	return nil
}

// takeFrom takes a free address of a block: one after a random place among those not kept for requests, else one of these.
func (a *Allocator) takeFrom(ctx context.Context, b block, owner Owner) (netip.Addr, error) {
	start := b.static
	if b.size > b.static {
		start += rand.IntN(b.size - b.static)
	}
	for _, r := range [][2]int{{start, b.size}, {b.static, start}, {0, b.static}} {
		for at := r[0]; ; {
			n, ip, ok := a.known.reserve(b, at, r[1])
			if !ok {
				break
			}
			err := a.occupy(ctx, ip, owner)
			if err == nil {
				return ip, nil
			}
			if !errors.Is(err, ErrAllocated) {
				a.known.set(ip, false)
				return netip.Addr{}, err
			}
			at = n + 1 // somebody else has it, which is known now
		}
	}
	return netip.Addr{}, ErrFull
}

// take takes one address.
func (a *Allocator) take(ctx context.Context, ip netip.Addr, owner Owner) error {
	err := a.occupy(ctx, ip, owner)
	if err == nil || errors.Is(err, ErrAllocated) {
		a.known.set(ip, true)
	}
	return err
}

// block is one range: number 0 is its second address; the last of IPv4 is none.
type block struct {
	cidr   netip.Prefix
	size   int // of numbers that are given unasked
	static int // the lowest of them, which are given only on request, or last
}

// maxIPs bounds what is given of a large range: unasked, only its first million addresses.
const maxIPs = 1 << 20

func newBlock(cidr netip.Prefix) (block, error) {
	bits := cidr.Addr().BitLen() - cidr.Bits()
	if !cidr.IsValid() || bits < 2 {
		return block{}, fmt.Errorf("%s is no range for cluster IPs", cidr)
	}
	cidr = cidr.Masked()
	all := maxIPs
	if bits < 20 {
		all = 1 << bits
	}
	size := all - 1
	if cidr.Addr().Is4() && bits <= 20 {
		size--
	}
	return block{cidr, size, min(static(all, 16, 16, 256), size)}, nil
}

// has says whether an address may be asked for: it is neither the first, nor of IPv4 the last.
func (b block) has(ip netip.Addr) bool {
	if !b.cidr.Contains(ip) || ip == b.cidr.Addr() {
		return false
	}
	return ip.Is6() || b.cidr.Contains(ip.Next())
}

func (b block) addr(n int) netip.Addr {
	sum := new(big.Int).SetBytes(b.cidr.Addr().AsSlice())
	sum.Add(sum, big.NewInt(int64(n)+1))
	ip, _ := netip.AddrFromSlice(sum.FillBytes(make([]byte, b.cidr.Addr().BitLen()/8)))
	return ip
}
