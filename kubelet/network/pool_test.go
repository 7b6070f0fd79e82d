package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPool(t *testing.T) {
	p := newPool()
	if _, _, err := p.take("early"); !errors.Is(err, ErrNoPodCIDR) {
		t.Fatalf("without a range: got %v", err)
	}
	p.hold("old", netip.MustParseAddr("10.9.0.3"))
	p.use(netip.MustParsePrefix("10.9.0.0/29")) // .1 gateway, .2 to .6 for pods
	take := func(key string) string {
		t.Helper()
		ip, _, err := p.take(key)
		if err != nil {
			t.Fatal(err)
		}
		return ip.String()
	}
	for _, c := range []struct{ key, want string }{
		{"a", "10.9.0.2"},
		{"b", "10.9.0.4"}, // .3 is held from before
		{"a", "10.9.0.2"}, // the same key keeps its own
		{"old", "10.9.0.3"},
		{"c", "10.9.0.5"},
		{"d", "10.9.0.6"},
	} {
		if got := take(c.key); got != c.want {
			t.Fatalf("%s: got %s, want %s", c.key, got, c.want)
		}
	}
	if _, _, err := p.take("too many"); !errors.Is(err, ErrExhausted) {
		t.Fatalf("full: got %v", err)
	}
	p.free("b")
	p.free("b")
	p.free("nobody")
	if got := take("e"); got != "10.9.0.4" {
		t.Fatalf("after freeing: got %s", got)
	}
	// What was given back last is given out last.
	p.free("a")
	p.free("d")
	if got := take("f"); got != "10.9.0.6" {
		t.Fatalf("in turn: got %s", got)
	}
	p.use(netip.MustParsePrefix("10.8.0.0/29"))
	if got := take("c"); got != "10.8.0.2" {
		t.Fatalf("in a new range: got %s", got)
	}
	if len(p.byKey) != len(p.taken) {
		t.Fatalf("%d keys, %d addresses", len(p.byKey), len(p.taken))
	}
}

func TestPoolIPv6(t *testing.T) {
	p := newPool()
	p.use(netip.MustParsePrefix("fd00::8/125")) // ::9 gateway, ::a to ::e for pods
	for _, want := range []string{"fd00::a", "fd00::b", "fd00::c", "fd00::d", "fd00::e"} {
		if ip, _, err := p.take(want); err != nil || ip.String() != want {
			t.Errorf("got %s, %v; want %s", ip, err, want)
		}
	}
	if _, _, err := p.take("too many"); !errors.Is(err, ErrExhausted) {
		t.Errorf("full: got %v", err)
	}
}

func TestRouteChanges(t *testing.T) {
	to := func(cidr, via string) route {
		return route{to: netip.MustParsePrefix(cidr), kind: unix.RTN_UNICAST, via: netip.MustParseAddr(via), link: 2}
	}
	a, b, moved := to("10.9.1.0/24", "10.7.0.2"), to("10.9.2.0/24", "10.7.0.3"), to("10.9.1.0/24", "10.7.0.9")
	otherLink, nowhere := a, route{to: a.to, kind: unix.RTN_UNREACHABLE}
	otherLink.link = 3
	for name, c := range map[string]struct{ have, want, add, remove []route }{
		"nothing":       {},
		"first":         {want: []route{a, b}, add: []route{a, b}},
		"same":          {have: []route{a, b}, want: []route{b, a}},
		"one goes":      {have: []route{a, b}, want: []route{b}, remove: []route{a}},
		"one moves":     {have: []route{a, b}, want: []route{moved, b}, add: []route{moved}},
		"another link":  {have: []route{a}, want: []route{otherLink}, add: []route{otherLink}},
		"leads nowhere": {have: []route{a}, want: []route{nowhere}, add: []route{nowhere}, remove: []route{a}},
		"twice":         {want: []route{a, a}, add: []route{a}},
	} {
		add, remove := routeChanges(c.have, c.want)
		if !slices.Equal(add, c.add) || !slices.Equal(remove, c.remove) {
			t.Errorf("%s: add %v, remove %v", name, add, remove)
		}
	}
}

func TestChoose(t *testing.T) {
	ways := map[netip.Addr]found{
		netip.MustParseAddr("10.7.0.2"): {way{unix.RTN_UNICAST, 2, false}, nil},
		netip.MustParseAddr("10.8.0.2"): {way{unix.RTN_UNICAST, 2, true}, nil},
		netip.MustParseAddr("10.9.0.2"): {way{}, unix.ENETUNREACH},
		netip.MustParseAddr("10.7.0.1"): {way{unix.RTN_LOCAL, 1, false}, nil},
		netip.MustParseAddr("fd07::2"):  {way{unix.RTN_UNICAST, 2, false}, nil},
	}
	for name, c := range map[string]struct{ ips, ranges, under, direct, far, failed string }{
		"on a link":           {"10.7.0.2", "10.244.1.0/24", "10.7.0.1", "[route to 10.244.1.0/24 by 10.7.0.2]", "[]", "[]"},
		"both families":       {"fd07::2 10.7.0.2", "10.244.1.0/24 fd00::/64", "10.7.0.1", "[route to 10.244.1.0/24 by 10.7.0.2 route to fd00::/64 by fd07::2]", "[]", "[]"},
		"behind a router":     {"10.8.0.2", "10.244.1.0/24", "10.7.0.1", "[]", "[{n 10.8.0.2 [10.244.1.0/24]}]", "[]"},
		"one family's on it":  {"10.8.0.2 fd07::2", "10.244.1.0/24 fd00::/64", "10.7.0.1", "[route to fd00::/64 by fd07::2]", "[{n 10.8.0.2 [10.244.1.0/24]}]", "[]"},
		"one family only":     {"10.7.0.2", "10.244.1.0/24 fd00::/64", "10.7.0.1", "[route to 10.244.1.0/24 by 10.7.0.2]", "[{n 10.7.0.2 [fd00::/64]}]", "[]"},
		"no way yet":          {"10.9.0.2", "10.244.1.0/24", "10.7.0.1", "[]", "[]", "[node n cannot be reached at 10.9.0.2: network is unreachable; its pods (10.244.1.0/24) wait for a route from this machine to it]"},
		"our own address":     {"10.7.0.1", "10.244.1.0/24", "10.7.0.1", "[]", "[]", "[node n says that it has address 10.7.0.1, which is this node's own or nobody's: its pods (10.244.1.0/24) cannot be reached]"},
		"another family":      {"10.8.0.2", "10.244.1.0/24", "fd07::1", "[]", "[]", "[node n is on no link of this machine, and has no address of the family of this node's address (fd07::1) to which a tunnel could lead]"},
		"two with one range":  {"10.7.0.2", "10.244.1.0/24 10.244.1.7/24", "10.7.0.1", "[route to 10.244.1.0/24 by 10.7.0.2]", "[]", "[node n has a pod range that another node has, too: 10.244.1.0/24]"},
		"nobody knows where":  {"", "10.244.1.0/24", "10.7.0.1", "[]", "[]", "[node n is on no link of this machine, and has no address of the family of this node's address (10.7.0.1) to which a tunnel could lead]"},
		"it has no range yet": {"10.7.0.2", "", "10.7.0.1", "[]", "[]", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			direct, far, failed := choose([]Peer{{"n", prefixes(c.ranges), addresses(c.ips)}}, ways, netip.MustParseAddr(c.under))
			if got := fmt.Sprint(direct); got != c.direct {
				t.Errorf("direct %s, want %s", got, c.direct)
			}
			ends := []string{}
			for _, f := range far {
				ends = append(ends, fmt.Sprintf("{%s %s %s}", f.name, f.end, f.cidrs))
			}
			if got := fmt.Sprint(ends); got != c.far {
				t.Errorf("far %s, want %s", got, c.far)
			}
			if got := fmt.Sprint(failed); got != c.failed {
				t.Errorf("failed %s, want %s", got, c.failed)
			}
		})
	}
}
