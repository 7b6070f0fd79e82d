package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
)

// inNamespace runs f in a goroutine whose thread lives in a network namespace of its own (a node's); the thread ends with it, and the
// namespace with everything in it.
func inNamespace(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unshare(); err != nil {
			t.Errorf("making network namespace: %v", err)
			return
		}
		f()
	}()
	<-done
}

// unshare puts the thread into a network namespace of its own, with the loopback link that every node and pod has.
func unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// pod is a thread in a network namespace of its own that does what it is asked; its path stands for a pin.
type pod struct {
	path string
	work chan func()
}

func newPod(t testing.TB) *pod {
	t.Helper()
	p := &pod{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unshare()
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

// TestPodsTalk connects two pods, lets one call the other and itself by way of the node, and takes all down again.
func TestPodsTalk(t *testing.T) {
	for name, c := range map[string]struct{ ranges, inA, inB, gateways string }{
		"IPv4":       {"10.244.7.0/24", "[10.244.7.2/32]", "[10.244.7.3/32]", "[169.254.1.1]"},
		"IPv6":       {"fd00:7::/64", "[fd00:7::2/128]", "[fd00:7::3/128]", "[fe80::1]"},
		"both":       {"10.244.7.0/24 fd00:7::/64", "[10.244.7.2/32 fd00:7::2/128]", "[10.244.7.3/32 fd00:7::3/128]", "[169.254.1.1 fe80::1]"},
		"IPv6 first": {"fd00:7::/64 10.244.7.0/24", "[fd00:7::2/128 10.244.7.2/32]", "[fd00:7::3/128 10.244.7.3/32]", "[fe80::1 169.254.1.1]"},
	} {
		t.Run(name, func(t *testing.T) { podsTalk(t, prefixes(c.ranges), c.inA, c.inB, c.gateways) })
	}
}

func podsTalk(t *testing.T, ranges []netip.Prefix, wantA, wantB, gateways string) {
	ctx := context.Background()
	a, b := newPod(t), newPod(t)
	inNamespace(t, func() {
		uplink(t, 1500, "10.7.0.1/24 fd07::1/64")
		n := New(Config{MTU: 1400, NodeIPs: addresses("10.7.0.1 fd07::1")}, zaptest.NewLogger(t))
		if _, err := n.Setup(ctx, Pod{Key: "a", NetNS: a.path}); !errors.Is(err, ErrNoPodCIDR) {
			t.Errorf("before a range: got %v", err)
		}
		if err := n.Ready(); !errors.Is(err, ErrNoPodCIDR) {
			t.Errorf("ready before a range: %v", err)
		}
		for range 2 { // the second repairs nothing and must change nothing
			if err := n.SetPodCIDRs(ctx, ranges); err != nil {
				t.Error(err)
				return
			}
		}
		if err := n.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		inA, err := n.Setup(ctx, Pod{Key: "a", NetNS: a.path, Namespace: "shop", Name: "till"})
		if err != nil {
			t.Error(err)
			return
		}
		again, err := n.Setup(ctx, Pod{Key: "a", NetNS: a.path, Namespace: "shop", Name: "till"})
		if err != nil || !reflect.DeepEqual(again, inA) {
			t.Errorf("second setup: got %v, %v; want %v", again, err, inA)
		}
		inB, err := n.Setup(ctx, Pod{Key: "b", NetNS: b.path})
		if err != nil {
			t.Error(err)
			return
		}
		if fmt.Sprint(inA.IPs) != wantA || fmt.Sprint(inB.IPs) != wantB || fmt.Sprint(inA.Gateways) != gateways {
			t.Errorf("addresses: %v, %v", inA, inB)
		}
		serve(t, b)
		b.has(t, inB.Addresses()...)
		for i, ip := range inB.Addresses() {
			for who, from := range map[string]*pod{inA.IPs[i].Addr().String(): a, ip.String(): b} {
				if seen := ask(t, from, ip); seen != who {
					t.Errorf("%s was seen as %s", who, seen)
				}
			}
			if seen, err := dial(netip.AddrPortFrom(ip, 7777)); err != nil || seen != n.from[ip.Is4()].String() {
				t.Errorf("the node calls %s and is seen as %s, %v", ip, seen, err)
			}
			gone := ip.Next().Next()
			if _, err := a.dial(netip.AddrPortFrom(gone, 7777)); !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("calling %s, which nobody has: %v", gone, err)
			}
		}
		host, err := netlink.LinkByName(inA.HostLink)
		if err != nil || host.Attrs().MTU != 1400 || host.Attrs().Alias != "shop/till" || host.Attrs().MasterIndex != 0 {
			t.Errorf("host link: %v, %v", host, err)
		}
		checkLink(t, inA)
		for range 2 {
			for key, p := range map[string]*pod{"a": a, "b": b} {
				if err := n.Teardown(ctx, p.path, key); err != nil {
					t.Error(err)
				}
			}
		}
		if got := links(t); len(got) != 2 {
			t.Errorf("after teardown: links %v", got)
		}
		for _, p := range n.pools {
			if len(p.byKey) != 0 {
				t.Errorf("after teardown: addresses %v", p.byKey)
			}
		}
		if err := n.Remove(ctx); err != nil {
			t.Error(err)
		}
		if have, err := ownRoutes(); err != nil || len(have) != 0 {
			t.Errorf("after remove: routes %v, %v", have, err)
		}
	})
}

// checkLink looks at what the kernel is told about the node's end of a pod's link, and that nobody needs to ask for addresses there.
func checkLink(t *testing.T, a Attachment) {
	t.Helper()
	want := map[string]string{"ipv4/ip_forward": "1"}
	for _, ip := range a.Addresses() {
		if ip.Is4() {
			conf := "ipv4/conf/" + a.HostLink
			want[conf+"/rp_filter"], want[conf+"/send_redirects"], want[conf+"/proxy_arp"], want["ipv4/conf/all/send_redirects"] = "1", "0", "0", "0"
		} else {
			want["ipv6/conf/all/forwarding"], want["ipv6/conf/"+a.HostLink+"/forwarding"] = "1", "1"
		}
	}
	if a.IPs[0].Addr().Is6() && len(a.IPs) == 1 {
		delete(want, "ipv4/ip_forward")
	}
	for file, value := range want {
		if have, err := os.ReadFile(sysctls + "/" + file); err != nil || strings.TrimSpace(string(have)) != value {
			t.Errorf("%s is %q, %v; want %s", file, have, err, value)
		}
	}
	link, err := netlink.LinkByName(a.HostLink)
	if err != nil {
		t.Error(err)
		return
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil || len(addrs) != 0 {
		t.Errorf("the node's end has addresses %v, %v", addrs, err)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.NeighList(link.Attrs().Index, family)
		if err != nil {
			t.Error(err)
		}
		for _, n := range list {
			if n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 {
				t.Errorf("somebody asked for %s: %v", n.IP, n)
			}
		}
	}
}

func TestSetupUndoes(t *testing.T) {
	inNamespace(t, func() {
		n := New(Config{MTU: 1500}, zaptest.NewLogger(t))
		if err := n.SetPodCIDRs(context.Background(), prefixes("10.244.7.0/24 fd00:7::/64")); err != nil {
			t.Error(err)
			return
		}
		if _, err := n.Setup(context.Background(), Pod{Key: "a", NetNS: "/no/such/namespace"}); err == nil {
			t.Error("a missing namespace was connected")
		}
		if got := links(t); len(got) != 0 || len(n.pools[true].byKey)+len(n.pools[false].byKey) != 0 {
			t.Errorf("left: links %v, addresses %v", got, n.pools)
		}
	})
}

func TestRanges(t *testing.T) {
	for name, c := range map[string]struct{ ranges, err string }{
		"none":           {"", "node has no pod range yet"},
		"two of a kind":  {"10.244.7.0/24 10.244.8.0/24", "pod ranges [10.244.7.0/24 10.244.8.0/24]: one range or one of each family is supported"},
		"small":          {"10.244.7.0/31", "pod range 10.244.7.0/31 has no room for a pod: IPv4 ranges up to /30 and IPv6 ranges up to /126 are supported"},
		"small, of IPv6": {"10.244.7.0/24 fd00::/127", "pod range fd00::/127 has no room for a pod"},
	} {
		t.Run(name, func(t *testing.T) {
			n := New(Config{}, zaptest.NewLogger(t))
			if err := n.SetPodCIDRs(context.Background(), prefixes(c.ranges)); err == nil || !strings.HasPrefix(err.Error(), c.err) {
				t.Errorf("got %v", err)
			}
			if err := n.Ready(); err == nil || !strings.HasPrefix(err.Error(), c.err) {
				t.Errorf("ready: %v", err)
			}
		})
	}
	inNamespace(t, func() {
		n := New(Config{MTU: 1000}, zaptest.NewLogger(t))
		if err := n.SetPodCIDRs(context.Background(), prefixes("fd00::/64")); err == nil || !strings.Contains(err.Error(), "raise the MTU") {
			t.Errorf("links too small for IPv6: %v", err)
		}
	})
}

// TestRangeMoves: new pods have addresses of the new range, old ones keep theirs, and are reached.
func TestRangeMoves(t *testing.T) {
	ctx := context.Background()
	a, b := newPod(t), newPod(t)
	inNamespace(t, func() {
		n := New(Config{MTU: 1500}, zaptest.NewLogger(t))
		n.Restore(nil)
		for _, step := range []struct {
			ranges, key, want string
			pod               *pod
		}{
			{"10.244.7.0/24", "a", "[10.244.7.2/32]", a},
			{"10.244.9.0/25 fd00:9::/64", "b", "[10.244.9.2/32 fd00:9::2/128]", b},
		} {
			if err := errors.Join(n.SetPodCIDRs(ctx, prefixes(step.ranges)), n.SetRoutes(ctx, nil)); err != nil {
				t.Error(err)
				return
			}
			if at, err := n.Setup(ctx, Pod{Key: step.key, NetNS: step.pod.path}); err != nil || fmt.Sprint(at.IPs) != step.want {
				t.Errorf("%s: %v, %v", step.ranges, at, err)
			}
		}
		serve(t, a)
		a.has(t, addresses("10.244.7.2")...)
		if seen := ask(t, b, netip.MustParseAddr("10.244.7.2")); seen != "10.244.9.2" {
			t.Errorf("seen as %s", seen)
		}
		have, err := ownRoutes()
		var got []string
		for _, r := range have {
			got = append(got, r.to.String())
		}
		slices.Sort(got)
		if want := "[10.244.7.2/32 10.244.9.0/25 10.244.9.2/32 fd00:9::/64 fd00:9::2/128]"; err != nil || fmt.Sprint(got) != want {
			t.Errorf("routes %v, %v", got, err)
		}
	})
}
