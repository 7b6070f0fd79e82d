package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	usualMTU     = 1500
	leastIPv6MTU = 1280 // RFC 8200, section 5
)

// tunnelTakes is what VXLAN puts before a packet, by the family it travels in: the inner Ethernet header, its own, UDP's and IP's (RFC 7348, section 5).
func tunnelTakes(under netip.Addr) int {
	if under.Is4() {
		return 14 + 8 + 8 + 20
	}
	return 14 + 8 + 8 + 40
}

// measureLocked finds out what pods' links may carry, so that no pod sends what the way to other nodes can't; and under which addresses this node speaks
// to pods.
func (n *Network) measureLocked() error {
	if err := n.ownLocked(); err != nil {
		return err
	}
	uplink, err := uplinkMTU(n.cfg.NodeIPs)
	if err != nil {
		return err
	}
	n.mtu = uplink
	if under := n.underlay(); n.tunnel && under.IsValid() {
		n.mtu -= tunnelTakes(under)
	}
	if n.cfg.MTU > 0 {
		n.mtu = n.cfg.MTU
	}
	n.ipv6 = hasIPv6() && n.mtu >= leastIPv6MTU
	return nil
}

// ownLocked looks which of the node's addresses are really here. For a family of which it has none it lends itself the first of its pods' range, for without any
// it could neither ask pods how they are nor be answered.
func (n *Network) ownLocked() error {
	s, err := openSocket()
	if err != nil {
		return err
	}
	defer s.close()
	b := &batch{}
	for _, ip := range n.cfg.NodeIPs {
		b.lookup(ip)
	}
	answers, err := b.send(s)
	if err != nil {
		return err
	}
	clear(n.from)
	for i, ip := range n.cfg.NodeIPs {
		if w, err := wayOf(answers[i]); err == nil && w.kind == unix.RTN_LOCAL {
			n.from[ip.Is4()] = ip
		}
	}
	lent := map[bool]netip.Addr{}
	for _, v4 := range n.families {
		if !n.from[v4].IsValid() {
			lent[v4] = gateway(n.pools[v4].cidr)
			n.from[v4] = lent[v4]
		}
	}
	if len(lent)+len(n.lent) == 0 {
		return nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding lo: %w", err)
	}
	list, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(lo, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	there := func(ip netip.Addr) bool {
		return slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(ip.AsSlice()) })
	}
	change := &batch{}
	for v4, ip := range n.lent {
		if lent[v4] != ip && there(ip) {
			change.deleteAddress(lo.Attrs().Index, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	for _, ip := range lent {
		if !there(ip) {
			change.address(lo.Attrs().Index, netip.PrefixFrom(ip, ip.BitLen()), unix.RT_SCOPE_UNIVERSE)
		}
	}
	n.lent = lent
	return change.do(s)
}

// uplinkMTU is that of the link with the node's address or, without one, of the one with the default route; the smaller, if its two addresses
// are on two links.
func uplinkMTU(nodeIPs []netip.Addr) (int, error) {
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return 0, fmt.Errorf("listing addresses: %w", err)
	}
	found := 0
	use := func(link int) error {
		l, err := netlink.LinkByIndex(link)
		if err != nil {
			return fmt.Errorf("finding uplink: %w", err)
		}
		// Some give their machines an address that is on no wire, and tell routers of it.
		if mtu := l.Attrs().MTU; l.Attrs().Flags&net.FlagLoopback == 0 && (found == 0 || mtu < found) {
			found = mtu
		}
		return nil
	}
	for _, a := range addrs {
		for _, ip := range nodeIPs {
			if a.IP.Equal(ip.AsSlice()) {
				if err := use(a.LinkIndex); err != nil {
					return 0, err
				}
			}
		}
	}
	if found > 0 {
		return found, nil
	}
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return 0, fmt.Errorf("listing routes: %w", err)
	}
	for _, r := range routes {
		if (r.Dst == nil || r.Dst.IP.IsUnspecified()) && r.LinkIndex != 0 && r.Type == unix.RTN_UNICAST {
			if err := use(r.LinkIndex); err != nil {
				return 0, err
			}
			return found, nil
		}
	}
	return usualMTU, nil
}
