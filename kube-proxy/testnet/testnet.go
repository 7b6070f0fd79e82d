// Package testnet is for tests: a small network of real network namespaces, with
// a node in the middle, pods on it, and a host outside.
//
//	host 198.18.7.2 ── 198.18.7.1 node ── pod 10.244.7.2, 10.244.7.3, …
//	host fd00:198::2 ── fd00:198::1 node ── pod fd00:10:244:7::2, …
//
// The namespaces have no name and no way out: they, their links and their rules
// vanish with the last descriptor, at the latest when the test process ends,
// however it ends. Services and pods are routed to the node as a cluster's are.
package testnet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The addresses of every Net.
var (
	NodeIP   = netip.MustParseAddr("198.18.7.1")
	HostIP   = netip.MustParseAddr("198.18.7.2")
	PodCIDR  = netip.MustParsePrefix("10.244.0.0/16")
	Services = netip.MustParsePrefix("10.96.0.0/16")

	// BridgeIP is the node's on the bridge of a bridged Net.
	BridgeIP = netip.MustParseAddr("10.244.7.1")

	// The same for IPv6.
	NodeIP6   = netip.MustParseAddr("fd00:198::1")
	HostIP6   = netip.MustParseAddr("fd00:198::2")
	PodCIDR6  = netip.MustParsePrefix("fd00:10:244::/48")
	Services6 = netip.MustParsePrefix("fd00:10:96::/112")
	BridgeIP6 = netip.MustParseAddr("fd00:10:244:7::1")

	gateway  = netip.MustParseAddr("169.254.1.1")
	gateway6 = netip.MustParseAddr("fe80::1")
)

// Patience bounds every wait for a packet.
const Patience = 10 * time.Second

// Net is a node, a host outside, and pods.
type Net struct {
	Node Place
	Host Place
	Pods []Place
}

// Place is a network namespace and its addresses.
type Place struct {
	Name string
	IP   netip.Addr
	IP6  netip.Addr
	NS   netns.NsHandle
}

// Of is the place's address of a family.
func (p Place) Of(v6 bool) netip.Addr {
	if v6 {
		return p.IP6
	}
	return p.IP
}

// New builds a network with a number of pods, each on a link of its own with the
// node. It needs root.
func New(t testing.TB, pods int) *Net {
	t.Helper()
	n := begin(t, pods)
	for _, p := range n.Pods {
		wire(t, n.Node, p.Name, p, "eth0")
		address(t, n.Node, p.Name, netip.PrefixFrom(gateway, 32))
		route(t, n.Node, p.Name, netip.PrefixFrom(p.IP, 32), netip.Addr{})
		address(t, p, "eth0", netip.PrefixFrom(p.IP, 32))
		route(t, p, "eth0", netip.PrefixFrom(gateway, 32), netip.Addr{})
		route(t, p, "eth0", netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway)

		address(t, n.Node, p.Name, netip.PrefixFrom(gateway6, 64))
		route(t, n.Node, p.Name, netip.PrefixFrom(p.IP6, 128), netip.Addr{})
		address(t, p, "eth0", netip.PrefixFrom(p.IP6, 128))
		route(t, p, "eth0", netip.PrefixFrom(gateway6, 128), netip.Addr{})
		route(t, p, "eth0", netip.PrefixFrom(netip.IPv6Unspecified(), 0), gateway6)
	}
	return n
}

// NewBridged builds a network like New, but with the pods on a bridge of the node
// with its address as their gateway: as the kubelet's own pod network is.
func NewBridged(t testing.TB, pods int) *Net {
	t.Helper()
	n := begin(t, pods)
	n.Node.link(t, func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "pods"}}); err != nil {
			return err
		}
		l, err := h.LinkByName("pods")
		if err != nil {
			return err
		}
		return h.LinkSetUp(l)
	})
	address(t, n.Node, "pods", netip.PrefixFrom(BridgeIP, 24))
	address(t, n.Node, "pods", netip.PrefixFrom(BridgeIP6, 64))
	address(t, n.Node, "pods", netip.PrefixFrom(gateway6, 64)) // the kernel asks for neighbours from an address of the link
	for _, p := range n.Pods {
		wire(t, n.Node, p.Name, p, "eth0")
		n.Node.link(t, func(h *netlink.Handle) error {
			bridge, err := h.LinkByName("pods")
			if err != nil {
				return err
			}
			l, err := h.LinkByName(p.Name)
			if err != nil {
				return err
			}
			if err := h.LinkSetMaster(l, bridge); err != nil {
				return err
			}
			return h.LinkSetHairpin(l, true)
		})
		address(t, p, "eth0", netip.PrefixFrom(p.IP, 24))
		route(t, p, "eth0", netip.PrefixFrom(netip.IPv4Unspecified(), 0), BridgeIP)
		address(t, p, "eth0", netip.PrefixFrom(p.IP6, 64))
		route(t, p, "eth0", netip.PrefixFrom(netip.IPv6Unspecified(), 0), BridgeIP6)
	}
	return n
}

// begin makes the node, the host outside, and pods without a link.
func begin(t testing.TB, pods int) *Net {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("building network namespaces: this test must run as root")
	}
	n := &Net{Node: place(t, "node", NodeIP, NodeIP6), Host: place(t, "host", HostIP, HostIP6)}
	wire(t, n.Node, "outside", n.Host, "eth0")
	for _, f := range []struct {
		node, host     netip.Addr
		link           int
		services, pods netip.Prefix
	}{{NodeIP, HostIP, 24, Services, PodCIDR}, {NodeIP6, HostIP6, 64, Services6, PodCIDR6}} {
		address(t, n.Node, "outside", netip.PrefixFrom(f.node, f.link))
		address(t, n.Host, "eth0", netip.PrefixFrom(f.host, f.link))
		route(t, n.Host, "eth0", f.services, f.node)
		route(t, n.Host, "eth0", f.pods, f.node)
		route(t, n.Node, "outside", f.services, f.host) // a process here needs some route before its destination is replaced
	}
	n.Node.set(t, "net/ipv4/ip_forward", "1")
	n.Node.set(t, "net/ipv6/conf/all/forwarding", "1")
	for i := range pods {
		ip6 := PodCIDR6.Addr().As16()
		ip6[7], ip6[15] = 7, byte(i+2)
		n.Pods = append(n.Pods, place(t, fmt.Sprintf("pod%d", i), netip.AddrFrom4([4]byte{10, 244, 7, byte(i + 2)}), netip.AddrFrom16(ip6)))
	}
	return n
}

// set writes a kernel setting of the namespace.
func (p Place) set(t testing.TB, name, value string) {
	t.Helper()
	p.Do(t, func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0o644) })
}

// External makes an address one of the services': the host outside sends it
// to the node, and the node knows some way to it.
func (n *Net) External(t testing.TB, a netip.Addr) {
	t.Helper()
	node, host := NodeIP, HostIP
	if a.Is6() {
		node, host = NodeIP6, HostIP6
	}
	route(t, n.Host, "eth0", netip.PrefixFrom(a, a.BitLen()), node)
	route(t, n.Node, "outside", netip.PrefixFrom(a, a.BitLen()), host)
}

// Address gives the node one more address on its link to the outside.
func (n *Net) Address(t testing.TB, a netip.Addr) {
	t.Helper()
	n.Node.Address(t, "outside", a)
}

// Address gives the place one more address on a link.
func (p Place) Address(t testing.TB, link string, a netip.Addr) {
	t.Helper()
	address(t, p, link, netip.PrefixFrom(a, a.BitLen()))
}

// place makes a namespace with its loopback up.
func place(t testing.TB, name string, ip, ip6 netip.Addr) Place {
	t.Helper()
	p := Place{Name: name, IP: ip, IP6: ip6}
	err := apart(func() error {
		ns, err := netns.New()
		p.NS = ns
		return err
	})
	if err != nil {
		t.Fatalf("making the namespace of %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := p.NS.Close(); err != nil {
			t.Errorf("closing the namespace of %s: %v", name, err)
		}
	})
	p.link(t, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return h.LinkSetUp(lo)
	})
	// Links have the addresses they are given, at once: no others, and nobody is
	// asked first whether somebody else has them.
	p.set(t, "net/ipv6/conf/default/addr_gen_mode", "1")
	p.set(t, "net/ipv6/conf/default/accept_dad", "0")
	return p
}

// link runs a netlink step in the namespace.
func (p Place) link(t testing.TB, step func(*netlink.Handle) error) {
	t.Helper()
	h, err := netlink.NewHandleAt(p.NS)
	if err != nil {
		t.Fatalf("opening netlink of %s: %v", p.Name, err)
	}
	defer h.Close()
	if err := step(h); err != nil {
		t.Fatalf("laying the network of %s: %v", p.Name, err)
	}
}

func wire(t testing.TB, a Place, aName string, b Place, bName string) {
	t.Helper()
	a.link(t, func(h *netlink.Handle) error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aName}, PeerName: bName, PeerNamespace: netlink.NsFd(b.NS)}
		return h.LinkAdd(veth)
	})
	for _, end := range []struct {
		p    Place
		name string
	}{{a, aName}, {b, bName}} {
		end.p.link(t, func(h *netlink.Handle) error {
			l, err := h.LinkByName(end.name)
			if err != nil {
				return err
			}
			return h.LinkSetUp(l)
		})
	}
}

func address(t testing.TB, p Place, dev string, a netip.Prefix) {
	t.Helper()
	p.link(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName(dev)
		if err != nil {
			return err
		}
		add := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			add.Flags = unix.IFA_F_NODAD
		}
		return h.AddrAdd(l, add)
	})
}

func route(t testing.TB, p Place, dev string, to netip.Prefix, via netip.Addr) {
	t.Helper()
	p.link(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName(dev)
		if err != nil {
			return err
		}
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(to), Scope: netlink.SCOPE_LINK}
		if via.IsValid() {
			r.Gw, r.Scope = net.IP(via.AsSlice()), netlink.SCOPE_UNIVERSE
		}
		return h.RouteAdd(r)
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// apart runs f on a thread of its own, which is thrown away: whatever namespace
// it is left in.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// ForgetFlows empties the connection table of the place.
func (p Place) ForgetFlows(t testing.TB) {
	t.Helper()
	p.Do(t, func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
}

// Run runs f in the namespace. Sockets made by f itself belong to it.
func (p Place) Run(f func() error) error {
	return apart(func() error {
		if err := netns.Set(p.NS); err != nil {
			return fmt.Errorf("entering the namespace of %s: %w", p.Name, err)
		}
		return f()
	})
}

// Do is Run that fails the test.
func (p Place) Do(t testing.TB, f func() error) {
	t.Helper()
	if err := p.Run(f); err != nil {
		t.Fatalf("in %s: %v", p.Name, err)
	}
}

// Serve answers on TCP and UDP, on every address of the place: its own name, and
// the address it was asked from.
func (p Place) Serve(t testing.TB, port uint16) {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	p.Do(t, func() (err error) {
		at := fmt.Sprintf(":%d", port)
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
			_, _ = fmt.Fprintf(c, "%s %s", p.Name, c.RemoteAddr()) // a client that left shows in the client
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
			_, _ = udp.WriteTo([]byte(p.Name+" "+from.String()), from)
		}
	}()
	t.Cleanup(func() {
		_ = tcp.Close()
		_ = udp.Close()
		<-done
		<-done
	})
}

// Answer is who answered, and as whom it saw the caller.
type Answer struct {
	From   string
	Caller netip.Addr
	Port   uint16 // the caller's
}

// Call opens a connection and reads the answer.
func (p Place) Call(network string, to netip.AddrPort) (Answer, error) {
	c, err := p.Dial(network, to)
	if err != nil {
		return Answer{}, err
	}
	defer c.Close()
	return Ask(c)
}

// Dial opens a connection from the place.
func (p Place) Dial(network string, to netip.AddrPort) (net.Conn, error) {
	return p.dial(network, to, Patience)
}

func (p Place) dial(network string, to netip.AddrPort, patience time.Duration) (net.Conn, error) {
	var c net.Conn
	err := p.Run(func() (err error) {
		c, err = net.DialTimeout(network, to.String(), patience)
		return err
	})
	return c, err
}

// Silence is how long a call waits that should hear nothing.
const Silence = 300 * time.Millisecond

// HearsNothing opens a TCP connection and is nil if neither an answer nor a
// refusal comes.
func (p Place) HearsNothing(to netip.AddrPort) error {
	c, err := p.dial("tcp", to, Silence)
	if err == nil {
		return errors.Join(errors.New("a connection was opened"), c.Close())
	}
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
		return nil
	}
	return err
}

// Ask sends a question on UDP, or opens the reading on TCP, and reads the answer.
func Ask(c net.Conn) (Answer, error) {
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		return Answer{}, err
	}
	if _, udp := c.(*net.UDPConn); udp {
		if _, err := c.Write([]byte("?")); err != nil {
			return Answer{}, err
		}
	}
	return Hear(c)
}

// Hear reads an answer, for as long as the connection's deadline says.
func Hear(c net.Conn) (Answer, error) {
	buf := make([]byte, 512)
	var n int
	var err error
	if _, udp := c.(*net.UDPConn); udp {
		n, err = c.Read(buf)
	} else {
		n, err = io.ReadFull(c, buf)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
	}
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	var caller string
	if _, err := fmt.Sscan(string(buf[:n]), &a.From, &caller); err != nil {
		return Answer{}, fmt.Errorf("reading the answer %q: %w", buf[:n], err)
	}
	at, err := netip.ParseAddrPort(caller)
	a.Caller, a.Port = at.Addr(), at.Port()
	return a, err
}

// Refused tells whether a call was refused at once, by TCP reset or by ICMP. A
// UDP sender on the refusing machine itself hears of it as EPERM.
func Refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EPERM) }

// ForgetFlows empties the node's connection table: a later call may have the port
// of an earlier one, and would be taken for a part of it.
func (n *Net) ForgetFlows(t testing.TB) {
	t.Helper()
	h, err := netlink.NewHandleAt(n.Node.NS, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		t.Fatal(err)
	}
}
