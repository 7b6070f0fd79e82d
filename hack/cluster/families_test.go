package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/hack/netns"
)

func TestReadFamilies(t *testing.T) {
	for _, tc := range []struct {
		list, want, fails string
		both              bool
	}{
		{"", "[]", "", false},
		{"", "[ipv4 ipv6]", "", true},
		{"ipv4", "[ipv4]", "", false},
		{"IPv6, ipv4", "[ipv6 ipv4]", "", false},
		{"ipv6,ipv4", "[ipv6 ipv4]", "", true},
		{"ipv6", "", "want one of both", true},
		{"ipv4,ipv4", "", "want ipv4, ipv6, or both", false},
		{"ipx", "", "want ipv4, ipv6, or both", false},
	} {
		got, err := readFamilies(tc.list, tc.both)
		if (err != nil) != (tc.fails != "") || err != nil && !strings.Contains(err.Error(), tc.fails) || err == nil && fmt.Sprint(got) != tc.want {
			t.Errorf("%q, %v: %v, %v", tc.list, tc.both, got, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		a    addresses
		want string
	}{
		{addresses{0, nil}, "198.18.0.0/24 10.244.0.0/16 10.96.0.0/16 198.18.0.1 198.18.0.11 10.96.0.1 10.96.0.10"},
		{addresses{2, []family{ipv6}}, "fd70:6869:6c02::/64 fd70:6869:6c02:100::/56 fd70:6869:6c02:1::/112 fd70:6869:6c02::1 fd70:6869:6c02::11 fd70:6869:6c02:1::1 fd70:6869:6c02:1::10"},
		{addresses{1, []family{ipv6, ipv4}}, "fd70:6869:6c01::/64,198.18.1.0/24 fd70:6869:6c01:100::/56,10.245.0.0/16 fd70:6869:6c01:1::/112,10.97.0.0/16 " +
			"fd70:6869:6c01::1,198.18.1.1 fd70:6869:6c01::11,198.18.1.11 fd70:6869:6c01:1::1 fd70:6869:6c01:1::10"},
	} {
		got := strings.Join([]string{joined(tc.a.nodes()), joined(tc.a.pods()), joined(tc.a.services()), joined(tc.a.bridges()), joined(tc.a.node(1)),
			tc.a.kubernetes().String(), tc.a.dns().String()}, " ")
		if got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
	var all []netip.Prefix
	for n := range maxRange + 1 {
		for _, p := range (addresses{n, []family{ipv4, ipv6}}).all() {
			for _, other := range all {
				if p.Overlaps(other) {
					t.Errorf("%s overlaps %s", p, other)
				}
			}
			all = append(all, p)
		}
		a := addresses{n, []family{ipv6}}
		if last := a.node(maxNodes)[0]; !a.nodes()[0].Contains(last) {
			t.Errorf("%s is not in %s", last, a.nodes()[0])
		}
	}
}

func TestWantedRoutes(t *testing.T) {
	node := func(cidrs string, ips ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
		if cidrs != "" {
			n.Spec.PodCIDRs = strings.Split(cidrs, ",")
		}
		for _, ip := range ips {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
		}
		return n
	}
	got := wantedRoutes([]*corev1.Node{
		node("10.244.0.0/24,fd01::/64", "fd00::1", "198.18.0.11"), node("", "198.18.0.12"), node("fd01:0:0:1::/64", "198.18.0.13"), node("x", "198.18.0.14"),
	})
	if want := "map[10.244.0.0/24:198.18.0.11 fd01::/64:fd00::1]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// dual is a cluster of both families with two nodes.
func dual(t *testing.T, name string, families ...family) *cluster {
	c := testCluster(t, fmt.Sprintf("unit-%s-%d", name, os.Getpid()), families...)
	raise(t, c, 2)
	return c
}

func TestBothFamilies(t *testing.T) {
	c := dual(t, "dual", ipv6, ipv4)
	n1, n2 := c.state.Nodes[0], c.state.Nodes[1]
	for _, to := range slices.Concat(c.nodeIPs(n2), c.addr().bridges()) {
		if err := dialFrom(c, n1, to); !refused(err) {
			t.Errorf("calling %s from %s: %v, want a refused connection", to, n1.Name, err)
		}
	}
	if err := dialFrom(c, n1, netip.MustParseAddr("2001:db8::77")); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("a node calls the world: %v, want network unreachable", err)
	}
	for _, p := range slices.Concat(c.addr().pods(), c.addr().services()) {
		if routes, err := netlink.RouteGet(p.Addr().Next().AsSlice()); err == nil {
			t.Errorf("the route to %s is %v, want none", p, routes)
		}
	}
	// Were the bridge gone, the nodes' addresses would end in a blackhole too, not at the uplink.
	if err := c.lowerLinks(); err != nil {
		t.Fatal(err)
	}
	for _, ip := range slices.Concat(c.nodeIPs(n1), c.addr().bridges()) {
		if routes, err := netlink.RouteGet(ip.AsSlice()); err == nil {
			t.Errorf("without the bridge the route to %s is %v, want none", ip, routes)
		}
	}
}

func TestRoutesToPods(t *testing.T) {
	c := dual(t, "routes", ipv4, ipv6)
	pod := func(i, node int) (netip.Prefix, netip.Addr) {
		p := c.addr().pods()[i]
		return netip.PrefixFrom(p.Addr(), map[bool]int{true: 24, false: 64}[p.Addr().Is4()]), c.addr().node(node)[i]
	}
	for _, node := range []int{1, 2} { // the second time the ranges are another node's
		want := map[netip.Prefix]netip.Addr{
			netip.MustParsePrefix("192.0.2.0/24"): c.addr().node(1)[0], netip.MustParsePrefix("2001:db8::/64"): c.addr().node(1)[1], // not of this cluster
		}
		for i := range 2 {
			p, via := pod(i, node)
			want[p] = via
		}
		if err := c.setRoutes(want); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			p, via := pod(i, node)
			routes, err := netlink.RouteGet(p.Addr().Next().AsSlice())
			if err != nil || len(routes) != 1 || !routes[0].Gw.Equal(via.AsSlice()) {
				t.Errorf("the route to %s is %v, %v, want one by %s", p, routes, err, via)
			}
		}
	}
	if err := c.setRoutes(nil); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		p, _ := pod(i, 1)
		if routes, err := netlink.RouteGet(p.Addr().Next().AsSlice()); err == nil {
			t.Errorf("the route to %s is %v, want none", p, routes)
		}
	}
}

func TestNodeWithAnotherAddress(t *testing.T) {
	c := dual(t, "moved", ipv4, ipv6)
	n1, n2 := c.state.Nodes[0], c.state.Nodes[1]
	a := c.addr()
	for list, words := range map[string]string{
		"192.0.2.1":                     "none of this cluster's nodes' addresses",
		a.bridge().String():             "the address of this machine",
		c.nodeIPs(n1)[1].String():       "the address of node1",
		joined(a.hosts(100)[:1]) + ",x": "unable to parse",
		a.hosts(100)[0].String() + "," + a.hosts(101)[0].String(): "one address of a family",
	} {
		if _, err := c.newAddresses(n2, list); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", list, err, words)
		}
	}
	for i := range 2 {
		old, next := c.nodeIPs(n2), a.hosts(100)[i]
		ips, err := c.newAddresses(n2, next.String())
		if err != nil {
			t.Fatal(err)
		}
		n2.Addresses = ips
		if err := netns.Do(c.nodeNetns(n2), func() error { return c.furnish(n2) }); err != nil {
			t.Fatal(err)
		}
		for ip, there := range map[netip.Addr]bool{old[1-i]: true, old[i]: false, next: true} {
			if err := dialFrom(c, n1, ip); refused(err) != there {
				t.Errorf("calling %s: %v, want that it is there: %v", ip, err, there)
			}
		}
	}
	if more, err := c.addNode(); err != nil || more.Index != 3 {
		t.Errorf("the next node is %+v, %v", more, err)
	}
	n2.Addresses = a.node(4)
	if more, err := c.addNode(); err != nil || more.Index != 5 {
		t.Errorf("a node more, beside one that has its address, is %+v, %v", more, err)
	}
}
