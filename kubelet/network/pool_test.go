package network

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
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

func TestRouteChanges(t *testing.T) {
	route := func(cidr, via string) Route {
		return Route{CIDR: netip.MustParsePrefix(cidr), Via: netip.MustParseAddr(via)}
	}
	a, b, moved := route("10.9.1.0/24", "10.7.0.2"), route("10.9.2.0/24", "10.7.0.3"), route("10.9.1.0/24", "10.7.0.9")
	for name, c := range map[string]struct{ have, want, add, remove []Route }{
		"nothing":   {},
		"first":     {want: []Route{a, b}, add: []Route{a, b}},
		"same":      {have: []Route{a, b}, want: []Route{b, a}},
		"one goes":  {have: []Route{a, b}, want: []Route{b}, remove: []Route{a}},
		"one moves": {have: []Route{a, b}, want: []Route{moved, b}, add: []Route{moved}},
		"twice":     {want: []Route{a, a}, add: []Route{a}},
	} {
		add, remove := routeChanges(c.have, c.want)
		if !slices.Equal(add, c.add) || !slices.Equal(remove, c.remove) {
			t.Errorf("%s: add %v, remove %v", name, add, remove)
		}
	}
}
