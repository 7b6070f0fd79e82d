package network

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func prefixes(list string) (out []netip.Prefix) {
	for word := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParsePrefix(word))
	}
	return out
}

func addresses(list string) (out []netip.Addr) {
	for word := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParseAddr(word))
	}
	return out
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// serve answers in the pod, on port 7777, with the address that it sees the caller have.
func serve(t *testing.T, p *pod) {
	t.Helper()
	var l net.Listener
	var err error
	p.do(func() { l, err = net.Listen("tcp", ":7777") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			}()
		}
	}()
}

// dial calls from the namespace of the caller's thread and returns what is answered. Sockets belong to the namespace of the thread that makes them.
func dial(to netip.AddrPort) (string, error) {
	c, err := net.DialTimeout("tcp", to.String(), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	said, err := io.ReadAll(c)
	return string(said), err
}

func (p *pod) dial(to netip.AddrPort) (said string, err error) {
	p.do(func() { said, err = dial(to) })
	return said, err
}

func ask(t *testing.T, from *pod, ip netip.Addr) string {
	t.Helper()
	said, err := from.dial(netip.AddrPortFrom(ip, 7777))
	if err != nil {
		t.Errorf("calling %s: %v", ip, err)
	}
	return said
}

// at does something with links in the pod's namespace; it must go well.
func (p *pod) at(t *testing.T, what func(h *netlink.Handle) error) {
	t.Helper()
	ns, err := netns.GetFromPath(p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := what(h); err != nil {
		t.Fatal(err)
	}
}

// end is one end of a cable.
type end struct {
	at    *pod
	name  string
	addrs string // with prefix lengths
}

// cable joins two namespaces by a link that carries 1500 bytes.
func cable(t *testing.T, a, b end) {
	t.Helper()
	ns, err := netns.GetFromPath(b.at.path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	a.at.at(t, func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = a.name
		return h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b.name, PeerNamespace: netlink.NsFd(ns)})
	})
	for _, e := range []end{a, b} {
		e.up(t)
	}
}

// cableInto joins a namespace to a bridge of the caller's.
func cableInto(t *testing.T, name string, bridge netlink.Link, e end) {
	t.Helper()
	ns, err := netns.GetFromPath(e.at.path)
	if err != nil {
		t.Error(err)
		return
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.Flags = name, bridge.Attrs().Index, net.FlagUp
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: e.name, PeerNamespace: netlink.NsFd(ns)}); err != nil {
		t.Error(err)
	}
	e.up(t)
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: attrs}); err != nil {
		t.Error(err)
	}
}

func (e end) up(t *testing.T) {
	t.Helper()
	e.at.at(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName(e.name)
		if err != nil {
			return err
		}
		for _, p := range prefixes(e.addrs) {
			if err := h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}); err != nil {
				return err
			}
		}
		return h.LinkSetUp(l)
	})
}

// uplink gives the caller's namespace a link to elsewhere, up0, which leads nowhere.
func uplink(t testing.TB, mtu int, addrs string) netlink.Link {
	t.Helper()
	up := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0", MTU: mtu}, PeerName: "elsewhere"}
	err := netlink.LinkAdd(up)
	for _, name := range []string{"elsewhere", "up0"} {
		if err == nil {
			err = netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: name}})
		}
	}
	for _, p := range prefixes(addrs) {
		if err == nil {
			err = netlink.AddrAdd(up, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD})
		}
	}
	if err != nil {
		t.Error(err)
	}
	for _, p := range prefixes(addrs) {
		eventually(t, "the node has "+p.Addr().String(), func() bool { return isOwn(p.Addr()) })
	}
	return up
}

// isOwn says whether an address is one of the caller's namespace. The kernel sees a moment later than we that a cable was plugged in.
func isOwn(ip netip.Addr) bool {
	routes, err := netlink.RouteGet(ip.AsSlice())
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}

// has waits until the pod takes packets for addresses that it was given: the kernel does the last of that on its own time.
func (p *pod) has(t *testing.T, ips ...netip.Addr) {
	t.Helper()
	for _, ip := range ips {
		eventually(t, "the pod has "+ip.String(), func() (is bool) {
			p.do(func() { is = isOwn(ip) })
			return is
		})
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("still not so: %s", what)
			return
		}
	}
}

// gateways gives a namespace default routes.
func (p *pod) gateways(t *testing.T, list string) {
	t.Helper()
	for _, ip := range addresses(list) {
		p.at(t, func(h *netlink.Handle) error {
			return h.RouteReplace(&netlink.Route{Dst: ipNet(netip.PrefixFrom(ip, 0).Masked()), Gw: ip.AsSlice()})
		})
	}
}
