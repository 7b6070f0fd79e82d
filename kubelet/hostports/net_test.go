package hostports

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// A small network for these tests: a node in the middle, two pods routed to it as the built-in driver routes them, a host outside. All in namespaces
// without a name, which vanish with the test.

var (
	nodeIPs  = []netip.Prefix{netip.MustParsePrefix("198.18.7.1/24"), netip.MustParsePrefix("fd07::1/64")}
	otherIP  = netip.MustParsePrefix("198.18.7.9/24") // the node's second address
	hostIPs  = []netip.Prefix{netip.MustParsePrefix("198.18.7.2/24"), netip.MustParsePrefix("fd07::2/64")}
	podIPs   = [][]netip.Addr{{netip.MustParseAddr("10.244.7.2"), netip.MustParseAddr("fd44::2")}, {netip.MustParseAddr("10.244.7.3"), netip.MustParseAddr("fd44::3")}}
	gateways = []netip.Addr{netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::1")}
)

const patient = 10 * time.Second

type place struct {
	name string
	ns   netns.NsHandle
}

type testNet struct {
	node, host place
	pods       []place
}

// inside runs f on a thread of its own in the place.
func (p place) inside(t testing.TB, f func() error) {
	t.Helper()
	if err := p.try(f); err != nil {
		t.Fatalf("in %s: %v", p.name, err)
	}
}

func (p place) try(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(p.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func newPlace(t testing.TB, name string) place {
	t.Helper()
	p := place{name: name}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		var err error
		p.ns, err = netns.New()
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("making namespaces needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := p.ns.Close(); err != nil {
			t.Error(err)
		}
	})
	p.inside(t, func() error { return p.up("lo") })
	return p
}

func (p place) up(link string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// end is one end of a cable: its addresses, and its routes by gateway (invalid: on the link).
type end struct {
	at     place
	link   string
	addrs  []netip.Prefix
	routes []hop
}

type hop struct {
	to  netip.Prefix
	via netip.Addr
}

// lay joins two places.
func lay(t testing.TB, a, b end) {
	t.Helper()
	a.at.inside(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a.link}, PeerName: b.link, PeerNamespace: netlink.NsFd(b.at.ns)})
	})
	for _, e := range []end{a, b} {
		e.at.inside(t, func() error { return e.at.up(e.link) })
	}
	for _, e := range []end{a, b} {
		e.at.inside(t, e.furnish)
	}
}

func (e end) furnish() error {
	l, err := netlink.LinkByName(e.link)
	if err != nil {
		return err
	}
	const noDetection = 0x02 // IFA_F_NODAD
	for _, a := range e.addrs {
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			addr.Flags = noDetection
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	for _, h := range e.routes {
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(h.to), Scope: netlink.SCOPE_LINK}
		if h.via.IsValid() {
			r.Gw, r.Scope = h.via.AsSlice(), netlink.SCOPE_UNIVERSE
		}
		if err := netlink.RouteAdd(r); err != nil {
			return fmt.Errorf("route to %s: %w", h.to, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func newNet(t testing.TB) *testNet {
	t.Helper()
	n := &testNet{node: newPlace(t, "node"), host: newPlace(t, "host")}
	lay(t, end{n.node, "outside", append(slices.Clone(nodeIPs), otherIP), nil}, end{n.host, "eth0", hostIPs,
		[]hop{{netip.MustParsePrefix("10.244.0.0/16"), nodeIPs[0].Addr()}, {netip.MustParsePrefix("fd44::/64"), nodeIPs[1].Addr()}}})
	for i, ips := range podIPs {
		p := newPlace(t, fmt.Sprintf("pod%d", i))
		var routes, back []hop
		var addrs, gates []netip.Prefix
		for f, ip := range ips {
			addrs, gates = append(addrs, whole(ip)), append(gates, whole(gateways[f]))
			routes = append(routes, hop{whole(gateways[f]), netip.Addr{}}, hop{netip.PrefixFrom(unspecified(ip), 0), gateways[f]})
			back = append(back, hop{whole(ip), netip.Addr{}})
		}
		lay(t, end{n.node, p.name, gates, back}, end{p, "eth0", addrs, routes})
		n.pods = append(n.pods, p)
	}
	n.node.inside(t, func() error {
		for _, f := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
			if err := os.WriteFile(f, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	return n
}

// serve answers on TCP and UDP at a port of all addresses: its name, and the address it was asked from.
func (p place) serve(t testing.TB, port uint16) {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	p.inside(t, func() (err error) {
		at := fmt.Sprintf("[::]:%d", port)
		if tcp, err = net.Listen("tcp", at); err != nil {
			return err
		}
		udp, err = net.ListenPacket("udp", at)
		return err
	})
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := tcp.Accept()
			if err != nil {
				return // closed
			}
			_, _ = fmt.Fprintf(c, "%s %s", p.name, c.RemoteAddr()) // a client that left shows in the client
			_ = c.Close()
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 512)
		for {
			_, from, err := udp.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			_, _ = fmt.Fprintf(writer{udp, from}, "%s %s", p.name, from)
		}
	}()
	t.Cleanup(func() {
		_ = tcp.Close()
		_ = udp.Close()
		<-done
		<-done
	})
}

type writer struct {
	net.PacketConn
	to net.Addr
}

func (w writer) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

// answer is who answered, and as whom it saw the caller.
type answer struct {
	from   string
	caller netip.Addr
}

func (p place) dial(network string, to netip.AddrPort) (c net.Conn, err error) {
	err = p.try(func() error {
		c, err = net.DialTimeout(network, to.String(), patient)
		return err
	})
	return c, err
}

func (p place) call(network string, to netip.AddrPort) (answer, error) {
	c, err := p.dial(network, to)
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	return ask(c)
}

// ask sends a question on UDP, and reads the answer.
func ask(c net.Conn) (answer, error) {
	if err := c.SetDeadline(time.Now().Add(patient)); err != nil {
		return answer{}, err
	}
	buf := make([]byte, 512)
	var n int
	var err error
	if _, datagrams := c.(*net.UDPConn); datagrams {
		if _, err = c.Write([]byte("?")); err == nil {
			n, err = c.Read(buf)
		}
	} else if n, err = io.ReadFull(c, buf); errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err != nil {
		return answer{}, err
	}
	var a answer
	var caller string
	if _, err := fmt.Sscan(string(buf[:n]), &a.from, &caller); err != nil {
		return answer{}, fmt.Errorf("reading the answer %q: %w", buf[:n], err)
	}
	from, err := netip.ParseAddrPort(caller)
	a.caller = from.Addr().Unmap()
	return a, err
}
