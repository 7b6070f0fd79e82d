package network

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
)

// station is a node with one pod on it, for tests of how nodes reach one another.
type station struct {
	*pod
	name     string
	network  *Network
	ips      []netip.Addr
	ranges   []netip.Prefix
	guest    *pod
	guestIPs []netip.Addr
}

func (s *station) peer() Peer { return Peer{s.name, s.ranges, s.ips} }

// open makes the node's network and its pod.
func (s *station) open(t *testing.T) {
	t.Helper()
	s.guest = newPod(t)
	s.do(func() {
		s.network = New(Config{NodeIPs: s.ips}, zaptest.NewLogger(t).Named(s.name))
		s.network.Restore(nil)
		if err := s.network.SetPodCIDRs(t.Context(), s.ranges); err != nil {
			t.Error(err)
		}
	})
	s.guestJoins(t)
	serve(t, s.guest)
}

// guestJoins makes the pod's place, with what a link carries now.
func (s *station) guestJoins(t *testing.T) {
	t.Helper()
	s.do(func() {
		err := s.network.Teardown(t.Context(), s.guest.path, "guest-"+s.name)
		at, err2 := s.network.Setup(t.Context(), Pod{Key: "guest-" + s.name, NetNS: s.guest.path})
		if err := errors.Join(err, err2); err != nil {
			t.Error(err)
		}
		s.guestIPs = at.Addresses()
	})
	s.guest.has(t, s.guestIPs...)
}

// meet tells each of the others.
func meet(t *testing.T, all ...*station) {
	t.Helper()
	for _, s := range all {
		var peers []Peer
		for _, o := range all {
			if o != s {
				peers = append(peers, o.peer())
			}
		}
		s.do(func() {
			if err := s.network.SetRoutes(t.Context(), peers); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		})
	}
}

// talk has every pod call every other: each is seen under its own address. Nodes call pods, too.
func (s *station) talk(t *testing.T, to *station) {
	t.Helper()
	for i, ip := range to.guestIPs {
		if seen := ask(t, s.guest, ip); seen != s.guestIPs[i].String() {
			t.Errorf("the pod of %s was seen by that of %s as %q", s.name, to.name, seen)
		}
		if said, err := s.dial(netip.AddrPortFrom(ip, 7777)); err != nil {
			t.Errorf("node %s calls the pod of %s: %v (%s)", s.name, to.name, err, said)
		}
	}
}

// full sends the largest packets from pod to pod, which must not be divided on the way, and some megabytes.
func (s *station) full(t *testing.T, to *station, mtu int) {
	t.Helper()
	for _, ip := range to.guestIPs {
		var there net.PacketConn
		var err error
		to.guest.do(func() { there, err = net.ListenPacket("udp", netip.AddrPortFrom(ip, 7).String()) })
		if err != nil {
			t.Fatal(err)
		}
		defer there.Close()
		head := 20 + 8
		if ip.Is6() {
			head = 40 + 8
		}
		packet := make([]byte, mtu-head)
		rand.Read(packet)
		s.guest.do(func() {
			c, err := net.Dial("udp", netip.AddrPortFrom(ip, 7).String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err != nil {
				t.Error(err)
				return
			}
			raw.Control(func(fd uintptr) {
				if ip.Is4() {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
				} else {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
				}
			})
			if err != nil {
				t.Error(err)
			}
			if _, err := c.Write(append(packet, 0)); !errors.Is(err, unix.EMSGSIZE) {
				t.Errorf("a packet of more than %d bytes to %s: %v", mtu, ip, err)
			}
			if _, err := c.Write(packet); err != nil {
				t.Errorf("a packet of %d bytes to %s: %v", mtu, ip, err)
			}
		})
		there.SetReadDeadline(time.Now().Add(10 * time.Second))
		in := make([]byte, 2*mtu)
		if n, _, err := there.ReadFrom(in); err != nil || !bytes.Equal(in[:n], packet) {
			t.Errorf("of a packet of %d bytes to %s arrived %d, %v", mtu, ip, n, err)
		}
		s.stream(t, to, ip)
	}
}

func (s *station) stream(t *testing.T, to *station, ip netip.Addr) {
	t.Helper()
	const size = 8 << 20
	var l net.Listener
	var err error
	to.guest.do(func() { l, err = net.Listen("tcp", netip.AddrPortFrom(ip, 7778).String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return // the reader says what is wrong
		}
		defer c.Close()
		c.Write(make([]byte, size))
	}()
	var c net.Conn
	s.guest.do(func() { c, err = net.DialTimeout("tcp", netip.AddrPortFrom(ip, 7778).String(), 10*time.Second) })
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("of %d bytes from %s arrived %d, %v", size, ip, n, err)
	}
}

// shape says which links and routes of ours the node has.
func (s *station) shape() (text string) {
	s.do(func() {
		routes, err := ownRoutes()
		if err != nil {
			text = err.Error()
		}
		var far, near int
		for _, r := range routes {
			switch {
			case r.blind:
				far++
			case r.via.IsValid():
				near++
			}
		}
		_, err = netlink.LinkByName(tunnelLink)
		text = fmt.Sprintf("%d direct, %d tunnelled, tunnel %v", near, far, err == nil)
	})
	return text
}

// TestNodesBehindARouter: A and B are on one link, C is behind a router that knows of no pods.
func TestNodesBehindARouter(t *testing.T) {
	for name, c := range map[string]struct {
		a, b, c, gates, gateC string // addresses of nodes, and of the router
		ranges                string // with % for the node's number
		direct, far           string
		mtu                   int
	}{
		"IPv4": {"10.7.0.2/24", "10.7.0.3/24", "10.8.0.2/24", "10.7.0.1/24", "10.8.0.1/24", "10.244.%.0/24",
			"1 direct, 1 tunnelled, tunnel true", "0 direct, 2 tunnelled, tunnel true", 1450},
		"both": {"10.7.0.2/24 fd07::2/64", "10.7.0.3/24 fd07::3/64", "10.8.0.2/24 fd08::2/64", "10.7.0.1/24 fd07::1/64", "10.8.0.1/24 fd08::1/64", "10.244.%.0/24 fd00:%::/64",
			"2 direct, 2 tunnelled, tunnel true", "0 direct, 4 tunnelled, tunnel true", 1450},
		"both, on nodes with IPv4": {"10.7.0.2/24", "10.7.0.3/24", "10.8.0.2/24", "10.7.0.1/24", "10.8.0.1/24", "10.244.%.0/24 fd00:%::/64",
			"1 direct, 3 tunnelled, tunnel true", "0 direct, 4 tunnelled, tunnel true", 1450},
		"IPv6": {"fd07::2/64", "fd07::3/64", "fd08::2/64", "fd07::1/64", "fd08::1/64", "fd00:%::/64",
			"1 direct, 1 tunnelled, tunnel true", "0 direct, 2 tunnelled, tunnel true", 1430},
	} {
		t.Run(name, func(t *testing.T) {
			node := func(i int, addrs string) *station {
				s := &station{pod: newPod(t), name: fmt.Sprint("node", i), ranges: prefixes(strings.ReplaceAll(c.ranges, "%", fmt.Sprint(i)))}
				for _, p := range prefixes(addrs) {
					s.ips = append(s.ips, p.Addr())
				}
				return s
			}
			one, two, three := node(1, c.a), node(2, c.b), node(3, c.c)
			wire, router := newPod(t), newPod(t)
			wire.at(t, func(h *netlink.Handle) error {
				return errors.Join(h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}}), up(h, "br"))
			})
			ports := 0
			plug := func(e end) {
				ports++
				port := fmt.Sprint("port", ports)
				cable(t, end{wire, port, ""}, e)
				wire.at(t, func(h *netlink.Handle) error {
					br, err := h.LinkByName("br")
					if err != nil {
						return err
					}
					l, err := h.LinkByName(port)
					if err != nil {
						return err
					}
					return h.LinkSetMaster(l, br)
				})
			}
			plug(end{one.pod, "eth0", c.a})
			plug(end{two.pod, "eth0", c.b})
			plug(end{router, "eth0", c.gates})
			cable(t, end{router, "eth1", c.gateC}, end{three.pod, "eth0", c.c})
			router.do(func() {
				if err := allowForwarding(true, true); err != nil {
					t.Error(err)
				}
			})
			for s, gates := range map[*station]string{one: c.gates, two: c.gates, three: c.gateC} {
				var list []string
				for _, p := range prefixes(gates) {
					list = append(list, p.Addr().String())
				}
				s.has(t, s.ips...)
				s.gateways(t, strings.Join(list, " "))
				s.open(t)
			}
			meet(t, one, two)
			if got := one.shape(); strings.Contains(c.direct, "1 tunnelled") && got != "1 direct, 0 tunnelled, tunnel false" {
				t.Errorf("without the distant node: %s", got)
			}
			meet(t, one, two, three)
			meet(t, one, two, three) // changes nothing
			for s, want := range map[*station]string{one: c.direct, two: c.direct, three: c.far} {
				if got := s.shape(); got != want {
					t.Errorf("%s: %s, want %s", s.name, got, want)
				}
				s.guestJoins(t)
			}
			for _, from := range []*station{one, two, three} {
				for _, to := range []*station{one, two, three} {
					from.talk(t, to)
				}
			}
			one.full(t, three, c.mtu)
			three.full(t, two, c.mtu)

			// The distant node is moved to the others' link, and has another address there.
			moved := strings.NewReplacer("10.8.0.2", "10.7.0.9", "fd08::2", "fd07::9").Replace(c.c)
			three.at(t, func(h *netlink.Handle) error {
				l, err := h.LinkByName("eth0")
				if err != nil {
					return err
				}
				return h.LinkDel(l)
			})
			plug(end{three.pod, "eth0", moved})
			three.ips = nil
			for _, p := range prefixes(moved) {
				three.ips = append(three.ips, p.Addr())
			}
			three.has(t, three.ips...)
			three.do(func() { three.network.cfg.NodeIPs = three.ips }) // as a kubelet that was started anew
			meet(t, one, two, three)
			if strings.Contains(c.direct, "3 tunnelled") {
				return // its pods' IPv6 goes through tunnels in any case
			}
			for _, s := range []*station{one, two, three} {
				if got := s.shape(); !strings.Contains(got, "0 tunnelled, tunnel false") {
					t.Errorf("all on one link: %s has %s", s.name, got)
				}
				s.guestJoins(t)
			}
			one.talk(t, three)
			three.talk(t, two)
			three.full(t, one, 1500)
		})
	}
}

func up(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.LinkSetUp(l)
}

// TestTunnelMends: entries that somebody took away or changed are put back, and others' addresses on the tunnel's link go.
func TestTunnelMends(t *testing.T) {
	inNamespace(t, func() {
		up0 := uplink(t, 1500, "10.7.0.1/24")
		n := New(Config{NodeIPs: addresses("10.7.0.1")}, zaptest.NewLogger(t))
		far := []Peer{{"far", prefixes("10.244.3.0/24 fd00:3::/64"), addresses("10.8.0.2")}}
		set := func() {
			t.Helper()
			if err := n.SetRoutes(context.Background(), far); err != nil {
				t.Error(err)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		must(netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: net.ParseIP("10.7.0.254")}))
		must(n.SetPodCIDRs(context.Background(), prefixes("10.244.1.0/24 fd00:1::/64")))
		set()
		link, err := netlink.LinkByName(tunnelLink)
		if err != nil {
			t.Error(err)
			return
		}
		index := link.Attrs().Index
		good, err := endsOf(index)
		must(err)
		if len(good.known) != 2 || len(good.behind) != 1 || link.Attrs().MTU != 1450 || link.Attrs().HardwareAddr.String() != "0a:58:0a:07:00:01" {
			t.Errorf("ends %v, link %v", good, link)
		}
		check := func(what string) {
			t.Helper()
			have, err := endsOf(index)
			if err != nil || fmt.Sprint(have) != fmt.Sprint(good) {
				t.Errorf("%s: %v, %v; want %v", what, have, err, good)
			}
			addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
			if err != nil || len(addrs) != 2 {
				t.Errorf("%s: addresses %v, %v", what, addrs, err)
			}
			routes, err := ownRoutes()
			if err != nil || len(routes) != 4 {
				t.Errorf("%s: routes %v, %v", what, routes, err)
			}
		}
		check("at first")
		b := &batch{}
		for ip := range good.known {
			b.deleteNeighbour(index, ip)
		}
		for mac, end := range good.behind {
			b.deleteForward(index, net.HardwareAddr(mac), end)
		}
		b.neighbour(index, netip.MustParseAddr("10.244.9.0"), endMAC(netip.MustParseAddr("10.9.9.9")))
		b.forward(index, endMAC(netip.MustParseAddr("10.9.9.9")), netip.MustParseAddr("10.9.9.9"))
		b.address(index, netip.MustParsePrefix("10.244.9.1/32"), 0)
		must(b.onHost())
		set()
		check("after somebody's changes")
		must(netlink.LinkSetMTU(up0, 1400))
		must(netlink.LinkSetDown(link))
		set()
		check("after the link was down")
		if link, err = netlink.LinkByName(tunnelLink); err != nil || link.Attrs().MTU != 1350 || n.mtu != 1350 {
			t.Errorf("the uplink carries less: %v, %v; pods' links %d", link, err, n.mtu)
		}
		far = nil
		set()
		if _, err := netlink.LinkByName(tunnelLink); err == nil || n.mtu != 1400 {
			t.Errorf("nobody needs the tunnel: %v, pods' links carry %d", err, n.mtu)
		}
	})
}

// TestKernelWithoutVXLAN: who is on a link of this machine is reached nevertheless, and the error says what to do.
func TestKernelWithoutVXLAN(t *testing.T) {
	inNamespace(t, func() {
		uplink(t, 1500, "10.7.0.1/24")
		n := New(Config{NodeIPs: addresses("10.7.0.1")}, zaptest.NewLogger(t))
		n.addLink = func(netlink.Link) error { return unix.EOPNOTSUPP }
		if err := errors.Join(netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: net.ParseIP("10.7.0.254")}),
			n.SetPodCIDRs(context.Background(), prefixes("10.244.1.0/24"))); err != nil {
			t.Error(err)
		}
		err := n.SetRoutes(context.Background(), []Peer{{"far", prefixes("10.244.3.0/24"), addresses("10.8.0.2")}, {"near", prefixes("10.244.2.0/24"), addresses("10.7.0.2")}})
		if err == nil || !strings.Contains(err.Error(), "making the tunnel to far: this kernel has no VXLAN: load its module (modprobe vxlan)") {
			t.Errorf("got %v", err)
		}
		if have, err := ownRoutes(); err != nil || len(have) != 2 {
			t.Errorf("routes %v, %v", have, err)
		}
		if err := n.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		if _, err := os.Stat("/sys/class/net/" + tunnelLink); err == nil {
			t.Error("there is a tunnel")
		}
	})
}
