package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
)

// inNamespace runs f in a goroutine whose thread lives in a network namespace of its own (a node's); the thread ends with it, and the
// namespace with everything in it.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("making network namespace: %v", err)
			return
		}
		f()
	}()
	<-done
}

// pod is a thread in a network namespace of its own that does what it is asked; its path stands for a pin.
type pod struct {
	path string
	work chan func()
}

func newPod(t *testing.T) *pod {
	t.Helper()
	p := &pod{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		p.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		ready <- err
		for f := range p.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("making network namespace: %v", err)
	}
	t.Cleanup(func() { close(p.work) })
	return p
}

func (p *pod) do(f func()) {
	done := make(chan struct{})
	p.work <- func() { f(); close(done) }
	<-done
}

func links(t *testing.T) (names []string) {
	t.Helper()
	list, err := whole(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if l.Attrs().Name != "lo" {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// TestPodsTalk connects two pods, lets one call the other and itself over its gateway's bridge, and takes all down again.
func TestPodsTalk(t *testing.T) {
	ctx := context.Background()
	a, b := newPod(t), newPod(t)
	inNamespace(t, func() {
		n := New(Config{MTU: 1400}, zaptest.NewLogger(t))
		if _, err := n.Setup(ctx, Pod{Key: "a", NetNS: a.path}); !errors.Is(err, ErrNoPodCIDR) {
			t.Errorf("before a range: got %v", err)
		}
		if err := n.Ready(); !errors.Is(err, ErrNoPodCIDR) {
			t.Errorf("ready before a range: %v", err)
		}
		for range 2 { // the second repairs nothing and must change nothing
			if err := n.SetPodCIDRs(ctx, []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}); err != nil {
				t.Error(err)
				return
			}
		}
		if err := n.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		inA, err := n.Setup(ctx, Pod{Key: "a", NetNS: a.path})
		if err != nil {
			t.Error(err)
			return
		}
		again, err := n.Setup(ctx, Pod{Key: "a", NetNS: a.path})
		if err != nil || !reflect.DeepEqual(again, inA) {
			t.Errorf("second setup: got %v, %v; want %v", again, err, inA)
		}
		inB, err := n.Setup(ctx, Pod{Key: "b", NetNS: b.path})
		if err != nil {
			t.Error(err)
			return
		}
		if inA.IPs[0].String() != "10.244.7.2/24" || inB.IPs[0].String() != "10.244.7.3/24" || inA.Gateways[0].String() != "10.244.7.1" {
			t.Errorf("addresses: %v, %v", inA, inB)
		}
		talk(t, a, b, inB.IPs[0].Addr())
		host, err := netlink.LinkByName(inA.HostLink)
		if err != nil || host.Attrs().MTU != 1400 {
			t.Errorf("host link: %v, %v", host, err)
		}
		port, err := netlink.LinkGetProtinfo(host)
		if err != nil || !port.Hairpin {
			t.Errorf("hairpin: %v, %v", port, err)
		}
		if forward, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil || forward[0] != '1' {
			t.Errorf("forwarding is %q, %v", forward, err)
		}
		for range 2 {
			for key, p := range map[string]*pod{"a": a, "b": b} {
				if err := n.Teardown(ctx, p.path, key); err != nil {
					t.Error(err)
				}
			}
		}
		if got := links(t); len(got) != 1 || got[0] != defaultBridge {
			t.Errorf("after teardown: links %v", got)
		}
		if len(n.pool.byKey) != 0 {
			t.Errorf("after teardown: addresses %v", n.pool.byKey)
		}
		if err := n.Remove(ctx); err != nil {
			t.Error(err)
		}
		if got := links(t); len(got) != 0 {
			t.Errorf("after remove: links %v", got)
		}
	})
}

// talk dials from one pod to a listener in another. Sockets belong to the namespace of the thread that makes them.
func talk(t *testing.T, from, to *pod, ip netip.Addr) {
	t.Helper()
	var l net.Listener
	var err error
	to.do(func() { l, err = net.Listen("tcp4", ip.String()+":0") })
	if err != nil {
		t.Errorf("listening in pod: %v", err)
		return
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return // the dialer says what is wrong
		}
		defer c.Close()
		io.WriteString(c, "hello")
	}()
	from.do(func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second); err != nil {
			return
		}
		defer c.Close()
		var said []byte
		said, err = io.ReadAll(c)
		if string(said) != "hello" {
			err = fmt.Errorf("heard %q: %w", said, err)
		}
	})
	if err != nil {
		t.Errorf("calling pod at %s: %v", ip, err)
	}
}

func TestSetupUndoes(t *testing.T) {
	inNamespace(t, func() {
		n := New(Config{MTU: 1500}, zaptest.NewLogger(t))
		if err := n.SetPodCIDRs(context.Background(), []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}); err != nil {
			t.Error(err)
			return
		}
		if _, err := n.Setup(context.Background(), Pod{Key: "a", NetNS: "/no/such/namespace"}); err == nil {
			t.Error("a missing namespace was connected")
		}
		if got := links(t); len(got) != 1 || len(n.pool.byKey) != 0 {
			t.Errorf("left: links %v, addresses %v", got, n.pool.byKey)
		}
	})
}

func TestBridgeMoves(t *testing.T) {
	inNamespace(t, func() {
		n := New(Config{MTU: 1500}, zaptest.NewLogger(t))
		for _, cidr := range []string{"10.244.7.0/24", "10.244.9.0/25"} {
			if err := n.SetPodCIDRs(context.Background(), []netip.Prefix{netip.MustParsePrefix(cidr)}); err != nil {
				t.Error(err)
				return
			}
		}
		link, err := netlink.LinkByName(defaultBridge)
		if err != nil {
			t.Error(err)
			return
		}
		addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
		if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != "10.244.9.1/25" {
			t.Errorf("addresses of the bridge: %v, %v", addrs, err)
		}
		if err := n.SetPodCIDRs(context.Background(), []netip.Prefix{netip.MustParsePrefix("fd00::/64")}); err == nil {
			t.Error("an IPv6 range was taken")
		}
	})
}

func TestSetRoutes(t *testing.T) {
	inNamespace(t, func() {
		uplink := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "up0", MTU: 1450}}
		node := netip.MustParsePrefix("10.7.0.2/24")
		for _, step := range []func() error{
			func() error { return netlink.LinkAdd(uplink) },
			func() error { return netlink.AddrAdd(uplink, &netlink.Addr{IPNet: ipNet(node)}) },
			func() error { return netlink.LinkSetUp(uplink) },
			func() error { // somebody else's route must stay
				return netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("10.6.0.0/24"))})
			},
		} {
			if err := step(); err != nil {
				t.Error(err)
				return
			}
		}
		n := New(Config{NodeIP: node.Addr()}, zaptest.NewLogger(t))
		if mtu, err := n.wantedMTU(); err != nil || mtu != 1450 {
			t.Errorf("MTU: %d, %v", mtu, err)
		}
		route := func(cidr, via string) Route {
			return Route{CIDR: netip.MustParsePrefix(cidr), Via: netip.MustParseAddr(via)}
		}
		for _, want := range [][]Route{
			{route("10.244.1.0/24", "10.7.0.3"), route("10.244.2.0/24", "10.7.0.4")},
			{route("10.244.1.0/24", "10.7.0.5")},
			nil,
		} {
			if err := n.SetRoutes(context.Background(), want); err != nil {
				t.Error(err)
			}
			have, err := ownRoutes()
			if add, remove := routeChanges(have, want); err != nil || len(add)+len(remove) > 0 {
				t.Errorf("want %v, have %v, %v", want, have, err)
			}
		}
		if err := n.SetRoutes(context.Background(), []Route{route("10.244.3.0/24", "172.16.0.1"), route("10.244.4.0/24", "10.7.0.6")}); err == nil {
			t.Error("an unreachable gateway was not reported")
		}
		if have, err := ownRoutes(); err != nil || len(have) != 1 {
			t.Errorf("the reachable one: %v, %v", have, err)
		}
		all, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.6.0.0/24"))}, netlink.RT_FILTER_DST)
		if err != nil || len(all) != 1 {
			t.Errorf("the other's route: %v, %v", all, err)
		}
	})
}
