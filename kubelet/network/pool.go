package network

import (
	"fmt"
	"net/netip"
)

// pool knows who has which address. Addresses are handed out in turn, so one just given back rests the longest: other nodes and open connections may
// still remember whose it was.
//
// INVARIANT: byKey and taken are each other's inverse.
type pool struct {
	cidr  netip.Prefix // invalid until use
	last  netip.Addr
	byKey map[string]netip.Addr
	taken map[netip.Addr]string
}

func newPool() *pool {
	return &pool{byKey: make(map[string]netip.Addr), taken: make(map[netip.Addr]string)}
}

// gateway is the first address after the network's own. No pod has it: where a tunnel leads to other nodes it is the node's own in there.
func gateway(cidr netip.Prefix) netip.Addr { return cidr.Masked().Addr().Next() }

// use begins a range; addresses outside of it stay with who has them.
func (p *pool) use(cidr netip.Prefix) {
	if p.cidr == cidr {
		return
	}
	p.cidr, p.last = cidr, gateway(cidr)
}

// hold marks an address as a key's; the first holder keeps it.
func (p *pool) hold(key string, ip netip.Addr) bool {
	if _, ok := p.taken[ip]; ok || !ip.IsValid() {
		return false
	}
	p.free(key)
	p.byKey[key], p.taken[ip] = ip, key
	return true
}

// take gives a key its address, a fresh one if it has none in this range.
func (p *pool) take(key string) (ip netip.Addr, fresh bool, err error) {
	if !p.cidr.IsValid() {
		return netip.Addr{}, false, ErrNoPodCIDR
	}
	if ip, ok := p.byKey[key]; ok && p.cidr.Contains(ip) {
		return ip, false, nil
	}
	ip = p.last
	for {
		ip = p.after(ip)
		if _, ok := p.taken[ip]; !ok {
			break
		}
		if ip == p.last {
			return netip.Addr{}, false, fmt.Errorf("range %s: %w", p.cidr, ErrExhausted)
		}
	}
	p.last = ip
	p.hold(key, ip)
	return ip, true, nil
}

// after is the next address for pods: neither network, gateway nor the last one, which is IPv4's broadcast.
func (p *pool) after(ip netip.Addr) netip.Addr {
	next := ip.Next()
	if !p.cidr.Contains(next) || !p.cidr.Contains(next.Next()) {
		return gateway(p.cidr).Next()
	}
	return next
}

func (p *pool) free(key string) {
	if ip, ok := p.byKey[key]; ok {
		delete(p.byKey, key)
		delete(p.taken, ip)
	}
}
