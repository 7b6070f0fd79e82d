package network

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The tunnel to nodes that are behind a router is a VXLAN (RFC 7348) with one network in it, which all nodes of the cluster share. Its port is the one that
// Linux had before the RFC, and flannel has.
const (
	tunnelLink = "pilot-vxlan"
	tunnelID   = 1
	tunnelPort = 8472
)

// distant is a node behind a router: where the tunnel to it ends, and its pods' ranges that are reached by it.
type distant struct {
	name  string
	end   netip.Addr
	cidrs []netip.Prefix
}

// endMAC is the hardware address of a node inside the tunnel. It follows from the node's own address, so nobody needs to be told.
func endMAC(end netip.Addr) net.HardwareAddr {
	if end.Is4() {
		return macOf(end)
	}
	sum := sha256.Sum256(end.AsSlice())
	return append(net.HardwareAddr{0x0a}, sum[:5]...)
}

// underlay is the node's address that the tunnel begins at: IPv4 if the node has that, so that two nodes with both choose alike.
func (n *Network) underlay() netip.Addr {
	if ip := of(n.cfg.NodeIPs, true); ip.IsValid() {
		return ip
	}
	return of(n.cfg.NodeIPs, false)
}

// digLocked makes the tunnel lead to these nodes and no others, and returns the routes through it.
func (n *Network) digLocked(far []distant) (through []route, err error) {
	under := n.underlay()
	if n.from[under.Is4()] != under {
		return nil, fmt.Errorf("this node's address %s is on none of its links: give it to one, or name another with --node-ip", under)
	}
	uplink, err := uplinkMTU([]netip.Addr{under})
	if err != nil {
		return nil, err
	}
	var own []netip.Prefix // the node's addresses inside, so that its own packets come back through the tunnel
	from := map[bool]netip.Addr{}
	for _, v4 := range n.families {
		ip := gateway(n.pools[v4].cidr)
		own, from[v4] = append(own, netip.PrefixFrom(ip, ip.BitLen())), ip
	}
	index, err := raiseTunnel(n.addLink, under, uplink-tunnelTakes(under), own)
	if err != nil {
		return nil, err
	}
	want := ends{known: map[netip.Addr]string{}, behind: map[string]netip.Addr{}}
	for _, f := range far {
		mac := endMAC(f.end)
		want.behind[string(mac)] = f.end
		for _, c := range f.cidrs {
			// The far end's address inside is made up: the range's own, which no pod has, or what its hardware address makes of it.
			via := c.Addr()
			if via.Is6() {
				via = linkLocal(mac)
			}
			want.known[via] = string(mac)
			through = append(through, route{to: c, kind: unix.RTN_UNICAST, via: via, link: index, blind: true, from: from[c.Addr().Is4()]})
		}
	}
	have, err := endsOf(index)
	if err != nil {
		return nil, err
	}
	return through, have.become(index, want).onHost(unix.ENOENT)
}

// raiseTunnel makes or repairs the tunnel's link.
func raiseTunnel(addLink func(netlink.Link) error, under netip.Addr, mtu int, own []netip.Prefix) (int, error) {
	link, err := netlink.LinkByName(tunnelLink)
	missing := errors.As(err, new(netlink.LinkNotFoundError))
	if err != nil && !missing {
		return 0, fmt.Errorf("finding link %s: %w", tunnelLink, err)
	}
	if !missing && !isTunnel(link, under) {
		if err := removeLinks(tunnelLink); err != nil {
			return 0, err
		}
		missing = true
	}
	if missing {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = tunnelLink, mtu, endMAC(under)
		err := addLink(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: tunnelID, Port: tunnelPort, SrcAddr: under.AsSlice()})
		switch {
		case errors.Is(err, unix.EOPNOTSUPP):
			return 0, fmt.Errorf("this kernel has no VXLAN: load its module (modprobe vxlan), or join the nodes to one link: %w", err)
		case errors.Is(err, unix.EEXIST):
			return 0, fmt.Errorf("another link of this machine has VXLAN %d on port %d (flannel's has): remove it: %w", tunnelID, tunnelPort, err)
		case err != nil:
			return 0, fmt.Errorf("adding link %s: %w", tunnelLink, err)
		}
		if link, err = netlink.LinkByName(tunnelLink); err != nil {
			return 0, fmt.Errorf("finding link %s: %w", tunnelLink, err)
		}
	}
	index := link.Attrs().Index
	if link.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return 0, fmt.Errorf("setting MTU of %s: %w", tunnelLink, err)
		}
	}
	b := &batch{}
	if hasIPv6() && mtu >= leastIPv6MTU {
		b.noAutoAddress(index)
	}
	b.linkUp(index)
	have, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return 0, fmt.Errorf("listing addresses: %w", err)
	}
	for _, p := range own {
		b.address(index, p, unix.RT_SCOPE_UNIVERSE)
	}
	for _, a := range have {
		ip, _ := netip.AddrFromSlice(a.IP)
		if !wants(own, ip.Unmap()) {
			if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return 0, fmt.Errorf("removing address %s: %w", a.IP, err)
			}
		}
	}
	return index, b.onHost()
}

func isTunnel(link netlink.Link, under netip.Addr) bool {
	v, ok := link.(*netlink.Vxlan)
	return ok && v.VxlanId == tunnelID && v.Port == tunnelPort && !v.Learning && v.SrcAddr.Equal(under.AsSlice()) && link.Attrs().HardwareAddr.String() == endMAC(under).String()
}

func wants(own []netip.Prefix, ip netip.Addr) bool {
	for _, p := range own {
		if p.Addr() == ip {
			return true
		}
	}
	return false
}

// ends are what the tunnel's link knows by heart: the far ends' hardware addresses, by their addresses inside, and behind which machine each of them is.
type ends struct {
	known  map[netip.Addr]string
	behind map[string]netip.Addr
}

func endsOf(index int) (ends, error) {
	e := ends{known: map[netip.Addr]string{}, behind: map[string]netip.Addr{}}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
		list, err := whole(func() ([]netlink.Neigh, error) { return netlink.NeighList(index, family) })
		if err != nil {
			return e, fmt.Errorf("listing neighbours in the tunnel: %w", err)
		}
		for _, l := range list {
			ip, ok := netip.AddrFromSlice(l.IP)
			switch {
			case !ok || l.State&netlink.NUD_PERMANENT == 0:
			case family == unix.AF_BRIDGE:
				e.behind[string(l.HardwareAddr)] = ip.Unmap()
			default:
				e.known[ip.Unmap()] = string(l.HardwareAddr)
			}
		}
	}
	return e, nil
}

// become is what makes one of the other.
func (e ends) become(index int, want ends) *batch {
	b := &batch{}
	for mac, end := range want.behind {
		if e.behind[mac] != end {
			b.forward(index, net.HardwareAddr(mac), end)
		}
	}
	for ip, mac := range want.known {
		if e.known[ip] != mac {
			b.neighbour(index, ip, net.HardwareAddr(mac))
		}
	}
	for ip := range e.known {
		if _, stays := want.known[ip]; !stays {
			b.deleteNeighbour(index, ip)
		}
	}
	for mac, end := range e.behind {
		if _, stays := want.behind[mac]; !stays {
			b.deleteForward(index, net.HardwareAddr(mac), end)
		}
	}
	return b
}
