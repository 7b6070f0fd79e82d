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
