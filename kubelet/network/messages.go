package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What a batch can ask for. Everything that is set is set whatever was there before, so that a batch may be repeated.
const set = unix.NLM_F_CREATE | unix.NLM_F_REPLACE

// linkInfo is what getLink answers.
type linkInfo struct {
	index, peer int // peer: of a veth, its other end's index in that one's namespace
	bridge      int // that it is a port of, or 0
}

func family(ip netip.Addr) int {
	if ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func text(s string) []byte { return append([]byte(s), 0) }

// addVeth makes a pair: its one end here under name, its other in the namespace ns, as eth0.
func (b *batch) addVeth(name string, ns *os.File, mtu int, here, there net.HardwareAddr) {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, []byte("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC))
	peer.AddRtAttr(unix.IFLA_IFNAME, text(podLink))
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu)))
	peer.AddRtAttr(unix.IFLA_ADDRESS, there)
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns.Fd())))
	b.add("adding veth", unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, text(name)),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))), nl.NewRtAttr(unix.IFLA_ADDRESS, here), info)
}

// skipStats is RTEXT_FILTER_SKIP_STATS (linux/rtnetlink.h): a link's counters are most of what is said of it.
const skipStats = 1 << 3

// getLink asks for a link by name; linkOf reads the answer.
func (b *batch) getLink(name string) {
	b.add("finding link "+name, unix.RTM_GETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, text(name)),
		nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
}

func linkOf(a answer) (linkInfo, error) {
	if a.err != nil || len(a.data) < unix.SizeofIfInfomsg {
		return linkInfo{}, a.err
	}
	info := linkInfo{index: int(binary.NativeEndian.Uint32(a.data[4:]))}
	for attr := range attributes(a.data[unix.SizeofIfInfomsg:]) {
		switch {
		case len(attr.value) != 4:
		case attr.kind == unix.IFLA_LINK:
			info.peer = int(binary.NativeEndian.Uint32(attr.value))
		case attr.kind == unix.IFLA_MASTER:
			info.bridge = int(binary.NativeEndian.Uint32(attr.value))
		}
	}
	return info, nil
}

func (b *batch) deleteLink(name string) {
	b.add("removing link "+name, unix.RTM_DELLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, text(name)))
}

func (b *batch) linkUp(index int) {
	up := nl.NewIfInfomsg(unix.AF_UNSPEC)
	up.Index, up.Flags, up.Change = int32(index), unix.IFF_UP, unix.IFF_UP
	b.add("setting link up", unix.RTM_SETLINK, 0, up)
}

// noAutoAddress keeps the kernel from giving the link an IPv6 address by itself, which takes it a second, for it asks around first.
func (b *batch) noAutoAddress(index int) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(none))
	b.add("keeping link without IPv6 address", unix.RTM_SETLINK, 0, msg, spec)
}

// The numbers of a link's IPv4 settings (linux/ip.h: IPV4_DEVCONF_*), which net.ipv4.conf.LINK.* shows.
const (
	proxyARP      = 3
	sendRedirects = 6
	rpFilter      = 8
)

// settings sets numbers of net.ipv4.conf.LINK, and what ip shows as the link's alias.
func (b *batch) settings(index int, alias string, values map[int]uint32) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	conf := spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(unix.IFLA_INET_CONF, nil)
	for which, value := range values {
		conf.AddRtAttr(which, nl.Uint32Attr(value))
	}
	b.add("setting up link", unix.RTM_SETLINK, 0, msg, nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(alias)), spec)
}

// address gives a link an address at once: nobody is asked whether he has it already.
func (b *batch) address(index int, p netip.Prefix, scope uint8) {
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Index, msg.Prefixlen, msg.Scope = uint32(index), uint8(p.Bits()), scope
	ip := p.Addr().AsSlice()
	data := []nl.NetlinkRequestData{msg, nl.NewRtAttr(unix.IFA_LOCAL, ip), nl.NewRtAttr(unix.IFA_ADDRESS, ip)}
	if p.Addr().Is6() {
		data = append(data, nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(unix.IFA_F_NODAD)))
	}
	b.add("setting address "+p.String(), unix.RTM_NEWADDR, set, data...)
}

func (b *batch) deleteAddress(index int, p netip.Prefix) {
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Index, msg.Prefixlen = uint32(index), uint8(p.Bits())
	b.add("removing address "+p.String(), unix.RTM_DELADDR, 0, msg, nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()))
}

// neighbour notes for good who has an address on a link, so that nobody is asked.
func (b *batch) neighbour(index int, ip netip.Addr, mac net.HardwareAddr) {
	b.add("setting neighbour "+ip.String(), unix.RTM_NEWNEIGH, set, &netlink.Ndmsg{Family: uint8(family(ip)), Index: uint32(index), State: netlink.NUD_PERMANENT},
		nl.NewRtAttr(netlink.NDA_DST, ip.AsSlice()), nl.NewRtAttr(netlink.NDA_LLADDR, mac))
}

func (b *batch) deleteNeighbour(index int, ip netip.Addr) {
	b.add("removing neighbour "+ip.String(), unix.RTM_DELNEIGH, 0, &netlink.Ndmsg{Family: uint8(family(ip)), Index: uint32(index)}, nl.NewRtAttr(netlink.NDA_DST, ip.AsSlice()))
}

// forward tells a tunnel behind which machine a hardware address is.
func (b *batch) forward(index int, mac net.HardwareAddr, machine netip.Addr) {
	b.add("setting tunnel to "+machine.String(), unix.RTM_NEWNEIGH, set,
		&netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index), State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, Flags: netlink.NTF_SELF},
		nl.NewRtAttr(netlink.NDA_DST, machine.AsSlice()), nl.NewRtAttr(netlink.NDA_LLADDR, mac))
}

func (b *batch) deleteForward(index int, mac net.HardwareAddr, machine netip.Addr) {
	b.add("removing tunnel to "+machine.String(), unix.RTM_DELNEIGH, 0, &netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index), Flags: netlink.NTF_SELF},
		nl.NewRtAttr(netlink.NDA_DST, machine.AsSlice()), nl.NewRtAttr(netlink.NDA_LLADDR, mac))
}

// lookup asks which way the kernel would go to an address; wayOf reads the answer.
func (b *batch) lookup(ip netip.Addr) {
	msg := &nl.RtMsg{}
	msg.Family, msg.Dst_len = uint8(family(ip)), uint8(ip.BitLen())
	b.add("looking for the way to "+ip.String(), unix.RTM_GETROUTE, 0, msg, nl.NewRtAttr(unix.RTA_DST, ip.AsSlice()))
}

// way is how the kernel reaches an address.
type way struct {
	kind   uint8 // RTN_UNICAST, RTN_LOCAL …
	link   int
	behind bool // a router
}

func wayOf(a answer) (way, error) {
	if a.err != nil {
		return way{}, a.err
	}
	if len(a.data) < unix.SizeofRtMsg {
		return way{}, unix.ENETUNREACH
	}
	w := way{kind: a.data[7]}
	for attr := range attributes(a.data[unix.SizeofRtMsg:]) {
		switch attr.kind {
		case unix.RTA_OIF:
			w.link = int(binary.NativeEndian.Uint32(attr.value))
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			w.behind = true
		}
	}
	return w, nil
}

// route is one of ours. Two that are equal are the same to the kernel.
type route struct {
	to    netip.Prefix
	kind  uint8      // RTN_UNICAST or RTN_UNREACHABLE
	via   netip.Addr // invalid: on the link itself
	link  int        // 0: of an unreachable one
	blind bool       // via need not be in reach by any other route
	from  netip.Addr // the address that this node's own packets get; may be invalid
}

// ours marks routes made here, so that no other's is ever removed. The kernel only stores it.
const ours = 87

// lastResort is the metric of routes that any other for the same range comes before.
const lastResort = 1 << 29

func (b *batch) route(r route) { b.add(fmt.Sprint("setting ", r), unix.RTM_NEWROUTE, set, r.data()...) }

func (b *batch) deleteRoute(r route) {
	b.add(fmt.Sprint("removing ", r), unix.RTM_DELROUTE, 0, r.data()...)
}

func (r route) data() []nl.NetlinkRequestData {
	msg := nl.NewRtMsg()
	msg.Family, msg.Dst_len, msg.Type, msg.Protocol = uint8(family(r.to.Addr())), uint8(r.to.Bits()), r.kind, ours
	msg.Scope = unix.RT_SCOPE_UNIVERSE
	data := []nl.NetlinkRequestData{msg}
	if r.to.Bits() > 0 {
		data = append(data, nl.NewRtAttr(unix.RTA_DST, r.to.Addr().AsSlice()))
	}
	switch {
	case r.kind == unix.RTN_UNREACHABLE:
		data = append(data, nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(lastResort)))
	case r.via.IsValid():
		data = append(data, nl.NewRtAttr(unix.RTA_GATEWAY, r.via.AsSlice()))
		if r.blind {
			msg.Flags |= unix.RTNH_F_ONLINK
		}
	case r.to.Addr().Is4():
		msg.Scope = unix.RT_SCOPE_LINK
	}
	if r.link != 0 {
		data = append(data, nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(r.link))))
	}
	if r.from.IsValid() {
		data = append(data, nl.NewRtAttr(unix.RTA_PREFSRC, r.from.AsSlice()))
	}
	return data
}

func (r route) String() string {
	s := "route to " + r.to.String()
	if r.via.IsValid() {
		s += " by " + r.via.String()
	}
	return s
}

// ownRoutes are all routes of both families that were made here.
func ownRoutes() (found []route, err error) {
	list, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: ours}, netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	found = []route{}
	for _, l := range list {
		if l.Dst == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(l.Dst.IP)
		if !ok {
			continue
		}
		if l.Family == unix.AF_INET {
			ip = ip.Unmap()
		}
		bits, _ := l.Dst.Mask.Size()
		r := route{to: netip.PrefixFrom(ip, bits), kind: uint8(l.Type), blind: l.Flags&unix.RTNH_F_ONLINK != 0}
		if r.kind != unix.RTN_UNREACHABLE {
			r.link = l.LinkIndex // some kernels say lo for one that leads nowhere
		}
		if via, ok := netip.AddrFromSlice(l.Gw); ok {
			r.via = via.Unmap()
		}
		if src, ok := netip.AddrFromSlice(l.Src); ok {
			r.from = src.Unmap()
		}
		found = append(found, r)
	}
	return found, nil
}

// macOf is an address of our own making (locally administered), the same for the same IP: nobody needs to be asked for it, nor told when a link is made anew.
func macOf(ip netip.Addr) net.HardwareAddr {
	b := ip.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, b[len(b)-4:]...)
}

// linkLocal is the IPv6 address that a link with this hardware address has in its own network (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// whole lists again while the kernel says that the list changed under it: half a list is none.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		got, err := list()
		if try == listTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
}

// listTries bounds that: a machine on which links or routes change without pause says so.
const listTries = 100
