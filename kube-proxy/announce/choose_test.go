package announce

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func never(string) bool { return false }

// all is the whole order.
func all(a netip.Addr, nodes map[string]node, here map[string]bool) []string {
	return rank(a, candidates(nodes), here, len(nodes))
}

func manyNodes(n int) map[string]node {
	out := map[string]node{}
	for i := range n {
		out[fmt.Sprintf("node%d", i+1)] = node{ready: true}
	}
	return out
}

func someAddresses(n int) []netip.Addr {
	var out []netip.Addr
	four, six := netip.MustParseAddr("198.18.0.225"), netip.MustParseAddr("fd00:18::225")
	for range n / 2 {
		out = append(out, four, six)
		four, six = four.Next(), six.Next()
	}
	return out
}

// The order is a promise between nodes, of different versions too: a change of it shows here.
func TestOrderIsForever(t *testing.T) {
	for a, want := range map[string]string{
		"198.18.0.225":    "node3 node2 node4 node1",
		"198.18.0.226":    "node3 node4 node1 node2",
		"198.18.0.227":    "node2 node4 node3 node1",
		"fd00:18::e1":     "node3 node1 node2 node4",
		"255.255.255.255": "node3 node4 node1 node2",
	} {
		if got := strings.Join(all(netip.MustParseAddr(a), manyNodes(4), nil), " "); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
}

// Each node sees the nodes in an order of its own (a map has none) and may know of some that they are silent; still all agree on
// who is first, and exactly one is.
func TestAllAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		nodes, here := map[string]node{}, map[string]bool(nil)
		for name := range manyNodes(1 + r.IntN(7)) {
			nodes[name] = node{ready: r.IntN(4) > 0, away: r.IntN(6) == 0}
		}
		if r.IntN(2) == 0 {
			here = map[string]bool{}
			for name := range nodes {
				here[name] = r.IntN(2) == 0
			}
		}
		a := someAddresses(20)[r.IntN(20)]
		firsts, seconds := []string{}, []string{}
		for name := range nodes {
			switch p, _ := role(all(a, nodes, here), name, never); p {
			case first:
				firsts = append(firsts, name)
			case second:
				seconds = append(seconds, name)
			}
		}
		if may := len(all(a, nodes, here)); len(firsts) != min(may, 1) || len(seconds) != min(max(may-1, 0), 1) {
			t.Fatalf("%v of %v (here %v): first %v, second %v", a, nodes, here, firsts, seconds)
		}
		for _, name := range firsts {
			anyReady := slices.ContainsFunc(slices.Collect(maps.Values(nodes)), func(n node) bool { return n.ready && !n.away })
			if nodes[name].away || anyReady && !nodes[name].ready || here != nil && !here[name] {
				t.Fatalf("%s may not be first: %+v here %v", name, nodes[name], here)
			}
		}
	}
}

// When a node goes, only its addresses move, and they move to who was second; when it returns, it has the same again.
func TestOnlyWhatMustMoves(t *testing.T) {
	nodes := manyNodes(5)
	before := map[netip.Addr][]string{}
	share := map[string]int{}
	for _, a := range someAddresses(1000) {
		before[a] = all(a, nodes, nil)
		share[before[a][0]]++
	}
	for name, n := range share {
		if n < 140 || n > 260 {
			t.Errorf("%s has %d of 1000 addresses", name, n)
		}
	}
	nodes["node3"] = node{}
	heirs := map[string]int{}
	for a, was := range before {
		now := all(a, nodes, nil)[0]
		switch {
		case was[0] != "node3" && now != was[0]:
			t.Errorf("%s moved from %s to %s though that node is there", a, was[0], now)
		case was[0] == "node3" && now != was[1]:
			t.Errorf("%s moved to %s, second was %s", a, now, was[1])
		case was[0] == "node3":
			heirs[now]++
		}
	}
	if len(heirs) != 4 {
		t.Errorf("not all others inherit: %v", heirs)
	}
}

func TestRole(t *testing.T) {
	three := []string{"a", "b", "c"}
	for _, c := range []struct {
		order  []string
		me     string
		silent string
		want   part
		whom   string
	}{
		{nil, "a", "", nobody, ""},
		{three, "a", "", first, "a"},
		{three, "b", "", second, "a"},
		{three, "c", "", other, "a"},
		{three, "b", "a", first, "b"},
		{three, "c", "a", second, "b"},
		{three, "c", "a b", first, "c"},
		{three, "c", "b", second, "a"},
		{three, "x", "", other, "a"},
		{three, "x", "a b c", other, "a"},
	} {
		p, whom := role(c.order, c.me, func(n string) bool { return slices.Contains(strings.Fields(c.silent), n) })
		if p != c.want || whom != c.whom {
			t.Errorf("%v, silent %q, me %s: %d %s, want %d %s", c.order, c.silent, c.me, p, whom, c.want, c.whom)
		}
	}
}

func TestNobodyReadyIsNotBelieved(t *testing.T) {
	nodes := map[string]node{"a": {}, "b": {}, "c": {away: true}}
	if got := all(someAddresses(2)[0], nodes, nil); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	nodes["b"] = node{ready: true}
	if got := all(someAddresses(2)[0], nodes, nil); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %v", got)
	}
	// Where the only endpoints are on a node that is not ready, nobody may.
	if got := all(someAddresses(2)[0], nodes, map[string]bool{"a": true}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// Who wants to know only the first few gets the beginning of the same order.
func TestFirstFew(t *testing.T) {
	nodes := manyNodes(50)
	for _, a := range someAddresses(40) {
		whole := all(a, nodes, nil)
		if few := rank(a, candidates(nodes), nil, 3); len(whole) != 50 || !slices.Equal(few, whole[:3]) {
			t.Fatalf("%s: %v of %v", a, few, whole)
		}
	}
}

func BenchmarkDecide1000AddressesOf5000Nodes(b *testing.B) {
	nodes, addresses := manyNodes(5000), someAddresses(1000)
	for b.Loop() {
		may := candidates(nodes)
		for _, a := range addresses {
			role(rank(a, may, nil, 2), "node1", never)
		}
	}
}

// What the kernel refused is tried again, also if its time comes between the question whether to try and the one when.
func TestRetriesAreNotLost(t *testing.T) {
	a := New(Config{}, Parts{}, zap.NewNop())
	a.failed[netip.MustParseAddr("198.18.9.230")] = &failure{until: time.Now().Add(-time.Nanosecond)}
	if a.retries().IsZero() {
		t.Error("nobody tries again")
	}
	if !a.retries().IsZero() {
		t.Error("and again without end")
	}
}
