package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
)

// TestSetRoutes: routes follow nodes; one that cannot be set yet hinders no other, and is set when it can be.
func TestSetRoutes(t *testing.T) {
	inNamespace(t, func() {
		up0 := uplink(t, 1450, "10.7.0.1/24 fd07::1/64")
		n := New(Config{NodeIPs: addresses("10.7.0.1 fd07::1")}, zaptest.NewLogger(t))
		if err := errors.Join(
			n.SetPodCIDRs(context.Background(), prefixes("10.244.1.0/24 fd00:1::/64")),
			netlink.RouteAdd(&netlink.Route{LinkIndex: up0.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("10.6.0.0/24"))}), // somebody else's
		); err != nil || n.mtu != 1450 {
			t.Errorf("%v, pods' links carry %d", err, n.mtu)
		}
		two := Peer{"n2", prefixes("10.244.2.0/24 fd00:2::/64"), addresses("10.7.0.2 fd07::2")}
		moved := Peer{"n2", prefixes("10.244.2.0/24 fd00:2::/64"), addresses("10.7.0.9 fd07::9")}
		three := Peer{"n3", prefixes("10.244.3.0/24"), addresses("172.16.0.3")}
		for _, c := range []struct {
			what  string
			do    func() error
			peers []Peer
			want  string
			err   string
		}{
			{what: "alone", want: ""},
			{what: "a node comes", peers: []Peer{two}, want: "route to 10.244.2.0/24 by 10.7.0.2 from 10.7.0.1, route to fd00:2::/64 by fd07::2 from fd07::1"},
			{what: "it has another address", peers: []Peer{moved}, want: "route to 10.244.2.0/24 by 10.7.0.9 from 10.7.0.1, route to fd00:2::/64 by fd07::9 from fd07::1"},
			{what: "one cannot be reached", peers: []Peer{two, three}, want: "route to 10.244.2.0/24 by 10.7.0.2 from 10.7.0.1, route to fd00:2::/64 by fd07::2 from fd07::1",
				err: "node n3 cannot be reached at 172.16.0.3: network is unreachable; its pods (10.244.3.0/24) wait for a route from this machine to it"},
			{what: "then it can", do: func() error {
				return netlink.AddrAdd(up0, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("172.16.0.1/24"))})
			}, peers: []Peer{three, two},
				want: "route to 10.244.2.0/24 by 10.7.0.2 from 10.7.0.1, route to 10.244.3.0/24 by 172.16.0.3 from 10.7.0.1, route to fd00:2::/64 by fd07::2 from fd07::1"},
			{what: "a node goes", peers: []Peer{three}, want: "route to 10.244.3.0/24 by 172.16.0.3 from 10.7.0.1"},
			{what: "all go", want: ""},
		} {
			if c.do != nil {
				if err := c.do(); err != nil {
					t.Error(err)
				}
			}
			if err := n.SetRoutes(context.Background(), c.peers); fmt.Sprint(err) != c.err && (err != nil || c.err != "") {
				t.Errorf("%s: %v", c.what, err)
			}
			have, err := ownRoutes()
			if err != nil {
				t.Error(err)
			}
			var lines []string
			for _, r := range have {
				if r.kind != unix.RTN_UNREACHABLE {
					lines = append(lines, fmt.Sprint(r, " from ", r.from))
				}
			}
			slices.Sort(lines)
			if got := strings.Join(lines, ", "); got != c.want || len(have)-len(lines) != 2 {
				t.Errorf("%s: %s, and %d ranges; want %s", c.what, got, len(have)-len(lines), c.want)
			}
		}
		all, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.6.0.0/24"))}, netlink.RT_FILTER_DST)
		if err != nil || len(all) != 1 {
			t.Errorf("the other's route: %v, %v", all, err)
		}
	})
}

// TestBareLink: over a link without hardware addresses a node is reached through a tunnel, which is the only way for packets of its pods.
func TestBareLink(t *testing.T) {
	inNamespace(t, func() {
		wg := &netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "wg0", MTU: 1420}}
		if err := errors.Join(netlink.LinkAdd(wg), netlink.AddrAdd(wg, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.7.0.1/24"))}), netlink.LinkSetUp(wg)); err != nil {
			t.Error(err)
		}
		n := New(Config{NodeIPs: addresses("10.7.0.1")}, zaptest.NewLogger(t))
		if err := errors.Join(n.SetPodCIDRs(context.Background(), prefixes("10.244.1.0/24")),
			n.SetRoutes(context.Background(), []Peer{{"n2", prefixes("10.244.2.0/24"), addresses("10.7.0.2")}})); err != nil {
			t.Error(err)
		}
		if _, err := netlink.LinkByName(tunnelLink); err != nil || n.mtu != 1370 {
			t.Errorf("%v, pods' links carry %d", err, n.mtu)
		}
	})
}

// TestNodeWithoutAddress: a node that has no address of a family speaks to pods of it all the same, and gives the address back that it lent itself.
func TestNodeWithoutAddress(t *testing.T) {
	p := newPod(t)
	serve(t, p)
	inNamespace(t, func() {
		n := New(Config{NodeIPs: addresses("10.7.0.1")}, zaptest.NewLogger(t))
		n.Restore(nil)
		if err := n.SetPodCIDRs(context.Background(), prefixes("fd00:7::/64 10.244.7.0/24")); err != nil {
			t.Error(err)
		}
		if _, err := n.Setup(context.Background(), Pod{Key: "a", NetNS: p.path}); err != nil {
			t.Error(err)
		}
		p.has(t, addresses("10.244.7.2 fd00:7::2")...)
		check := func(want map[string]string) {
			t.Helper()
			for ip, as := range want {
				eventually(t, as+" is the node's own", func() bool { return isOwn(netip.MustParseAddr(as)) })
				if seen, err := dial(netip.AddrPortFrom(netip.MustParseAddr(ip), 7777)); err != nil || seen != as {
					t.Errorf("%s sees %s, %v; want %s", ip, seen, err, as)
				}
			}
		}
		check(map[string]string{"10.244.7.2": "10.244.7.1", "fd00:7::2": "fd00:7::1"})
		uplink(t, 1500, "10.7.0.1/24")
		for range 2 {
			if err := n.SetRoutes(context.Background(), nil); err != nil {
				t.Error(err)
			}
			check(map[string]string{"10.244.7.2": "10.7.0.1", "fd00:7::2": "fd00:7::1"})
		}
		if isOwn(netip.MustParseAddr("10.244.7.1")) {
			t.Error("the node keeps what it lent itself")
		}
		if err := n.Remove(context.Background()); err != nil || isOwn(netip.MustParseAddr("fd00:7::1")) {
			t.Errorf("a node that left for good keeps what it lent itself: %v", err)
		}
	})
}
