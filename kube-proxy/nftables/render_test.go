package nftables

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pilothouse.dev/kube-proxy/changes"
)

var update = flag.Bool("update", false, "rewrite testdata")

// golden compares with a file of testdata, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite with -update and review the difference); got:\n%s", path, got)
	}
}

// testService makes a service port; endpoints are written «10.1.0.1:80», with a
// star if they are of this node.
func testService(name string, edit func(*changes.Service), endpoints ...string) *changes.Service {
	s := &changes.Service{
		Name: changes.Name{Namespace: "d", Service: name}, Protocol: changes.TCP,
		ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 80,
	}
	for _, e := range endpoints {
		at, local := strings.CutSuffix(e, "*")
		s.Endpoints = append(s.Endpoints, changes.Endpoint{Addr: netip.MustParseAddrPort(at), Local: local})
	}
	if edit != nil {
		edit(s)
	}
	for _, e := range s.Endpoints {
		if e.Local && (s.InternalLocal || s.ExternalLocal) {
			s.LocalEndpoints = append(s.LocalEndpoints, e)
		}
	}
	return s
}

func (t transaction) describe(f family) string {
	var b strings.Builder
	for _, p := range t.addChains {
		fmt.Fprintf(&b, "  + chain %s\n", p.chain())
	}
	for _, e := range t.del {
		fmt.Fprintf(&b, "  - %s\n", e.describe(f))
	}
	for _, e := range t.add {
		fmt.Fprintf(&b, "  + %s\n", e.describe(f))
	}
	if b.Len() == 0 {
		return "  nothing\n"
	}
	return b.String()
}

// Each story is a row of wishes; the transcript is what each of them changes.
func TestTransactions(t *testing.T) {
	type step struct {
		say      string
		nodes    []string
		services []*changes.Service
	}
	at := func(ip string) func(*changes.Service) {
		return func(s *changes.Service) { s.ClusterIP = netip.MustParseAddr(ip) }
	}
	nodePort := func(s *changes.Service) { s.NodePort = 30080 }
	sticky := func(s *changes.Service) { s.Affinity = 3 * time.Hour }
	externalLocal := func(s *changes.Service) {
		s.NodePort, s.ExternalLocal = 30080, true
		s.External = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	}
	internalLocal := func(s *changes.Service) { s.InternalLocal = true }
	list := func(s ...*changes.Service) []*changes.Service { return s }

	for _, story := range []struct {
		file  string
		steps []step
	}{
		{"endpoints.txt", []step{
			{"a service without endpoints", nil, list(testService("web", nil))},
			{"gets two", nil, list(testService("web", nil, "10.1.0.1:8080*", "10.1.0.2:8080"))},
			{"the same again", nil, list(testService("web", nil, "10.1.0.1:8080*", "10.1.0.2:8080"))},
			{"gets a third, sorted before the others: it takes the free number", nil, list(testService("web", nil, "10.1.0.0:8080", "10.1.0.1:8080*", "10.1.0.2:8080"))},
			{"one is replaced: nobody else moves", nil, list(testService("web", nil, "10.1.0.0:8080", "10.1.0.2:8080", "10.1.0.7:8080"))},
			{"the first goes: the last takes its number", nil, list(testService("web", nil, "10.1.0.2:8080", "10.1.0.7:8080"))},
			{"all go", nil, list(testService("web", nil))},
			{"the service goes", nil, nil},
		}},
		{"services.txt", []step{
			{"two services with two endpoints each, one of them shared", nil, list(
				testService("a", at("10.96.0.1"), "10.1.0.1:8080*", "10.1.0.2:8080"),
				testService("b", at("10.96.0.2"), "10.1.0.1:8080*", "10.1.0.3:8080"))},
			{"one goes: the chain and the hairpin stay for the other", nil, list(testService("b", at("10.96.0.2"), "10.1.0.1:8080*", "10.1.0.3:8080"))},
			{"another comes with the address of the one that went", nil, list(
				testService("b", at("10.96.0.2"), "10.1.0.1:8080*", "10.1.0.3:8080"),
				testService("c", at("10.96.0.1"), "10.1.0.9:8080"))},
			{"a rename changes nothing in the kernel", nil, list(
				testService("b", at("10.96.0.2"), "10.1.0.1:8080*", "10.1.0.3:8080"),
				testService("d", at("10.96.0.1"), "10.1.0.9:8080"))},
		}},
		{"contended.txt", []step{
			{"two services claim one address: the first has it", nil, list(testService("a", nil, "10.1.0.1:8080"), testService("b", nil, "10.1.0.2:8080"))},
			{"the first goes: now the second has it", nil, list(testService("b", nil, "10.1.0.2:8080"))},
		}},
		{"nodeports.txt", []step{
			{"a node port on one address", []string{"198.18.0.11"}, list(testService("web", nodePort, "10.1.0.1:8080"))},
			{"the node gets another address", []string{"198.18.0.11", "198.18.0.12"}, list(testService("web", nodePort, "10.1.0.1:8080"))},
			{"the port is given up", []string{"198.18.0.12"}, list(testService("web", nil, "10.1.0.1:8080"))},
		}},
		{"affinity.txt", []step{
			{"clients return for three hours", nil, list(testService("web", sticky, "10.1.0.1:8080", "10.1.0.2:8080"))},
			{"one endpoint goes", nil, list(testService("web", sticky, "10.1.0.2:8080"))},
			{"no affinity any more", nil, list(testService("web", nil, "10.1.0.2:8080"))},
		}},
		{"local.txt", []step{
			{"outside: only local endpoints, two of three", nil, list(testService("web", externalLocal, "10.1.0.1:8080*", "10.1.0.2:8080", "10.1.0.3:8080*"))},
			{"none is local", nil, list(testService("web", externalLocal, "10.1.0.2:8080"))},
			{"inside: only local endpoints", nil, list(testService("web", internalLocal, "10.1.0.1:8080*", "10.1.0.2:8080"))},
			{"none is local: dropped", nil, list(testService("web", internalLocal, "10.1.0.2:8080"))},
			{"none at all: refused", nil, list(testService("web", internalLocal))},
		}},
	} {
		t.Run(story.file, func(t *testing.T) {
			f := familyOf(false)
			r := newRuleset(f)
			stepping(r, hairpinRest)
			r.advance(Wish{Table: &changes.Table{}}) // the usual chains
			var b strings.Builder
			for _, s := range story.steps {
				w := Wish{Table: changes.NewTable(s.services...)}
				for _, a := range s.nodes {
					w.NodeAddresses = append(w.NodeAddresses, netip.MustParseAddr(a))
				}
				fmt.Fprintf(&b, "%s\n%s\n", s.say, r.advance(w).transaction().describe(f))
			}
			golden(t, story.file, b.String())
		})
	}
}

// The chains, by what their rules say of themselves.
func TestChains(t *testing.T) {
	c := Config{PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), MasqueradeEgress: true, MasqueradeBit: 14}
	f := familyOf(false)
	var b strings.Builder
	show := func(name string, rules []rule) {
		fmt.Fprintf(&b, "%s\n", name)
		for _, r := range rules {
			fmt.Fprintf(&b, "  %s\n", r.comment)
		}
	}
	for _, ch := range fixedChains(c, f) {
		show(ch.name, ch.rules)
	}
	for _, p := range []pick{
		{front: frontCluster, count: 1},
		{front: frontCluster, count: 3},
		{front: frontCluster, count: 3, sticky: time.Minute},
		{front: frontCluster, local: true, count: 3, locals: 2},
		{front: frontNode, count: 2},
		{front: frontExternal, count: 2, keep: true},
		{front: frontNode, local: true, count: 3, locals: 1},
		{front: frontExternal, local: true, count: 3},
		{front: frontCluster, hashed: true, count: 3},
		{front: frontExternal, ranged: true, hashed: true, count: 2, sticky: time.Minute},
	} {
		show(p.plain().chain(), p.plain().rules(c, f))
	}
	golden(t, "chains.txt", b.String())
}

// content is the whole desired content as the kernel would give it back.
func content(r *ruleset) map[frontKey]string {
	out := map[frontKey]string{}
	for e := range r.elements() {
		out[frontKey{e.set, e.key}] = e.value
	}
	return out
}

// stepping sets a ruleset's clock to go on by d at every look, from a time after
// all before.
func stepping(r *ruleset, d time.Duration) {
	now := r.clock().Add(time.Hour)
	r.clock = func() time.Time {
		now = now.Add(d)
		return now
	}
}

// A pod stays in hairpin for a while when its last service lets it go, through a
// restart of the daemon too, and one that comes back in that time is not touched.
func TestHairpinsRest(t *testing.T) {
	f := familyOf(false)
	wish := func(services ...*changes.Service) Wish { return Wish{Table: changes.NewTable(services...)} }
	both, one := wish(testService("web", nil, "10.1.0.1:80*", "10.1.0.2:80*")), wish(testService("web", nil, "10.1.0.1:80*"))
	gone := frontKey{setHairpin, join(netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.2"))}
	holds := func(t *testing.T, r *ruleset, want bool) {
		t.Helper()
		if _, there := content(r)[gone]; there != want {
			t.Errorf("the pod that left is in hairpin: %t, want %t", there, want)
		}
	}
	at := time.Unix(0, 0)
	clock := func() time.Time { return at }

	r := newRuleset(f)
	r.clock = clock
	r.advance(both)
	r.advance(one)
	holds(t, r, true)

	again := newRuleset(f)
	again.clock = clock
	again.inherit(content(r))
	again.advance(one)
	holds(t, again, true)

	at = at.Add(hairpinRest - 1)
	if tx := r.advance(both).transaction(); strings.Contains(tx.describe(f), setHairpin) {
		t.Errorf("it came back and hairpin was touched:\n%s", tx.describe(f))
	}
	r.advance(one)
	at = at.Add(hairpinRest)
	r.advance(one)
	holds(t, r, false)
	if r.advance(both); len(r.resting) != 0 {
		t.Errorf("still resting: %v", r.resting)
	}
	holds(t, r, true)
	again.advance(one)
	holds(t, again, false)
}

// Random wishes one after the other: what the transactions add up to is what the
// ruleset says it wants, and what a ruleset made at once from the last wish wants,
// but for which endpoint has which number.
func TestManyWishesAddUp(t *testing.T) {
	f := familyOf(false)
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := newRuleset(f)
		stepping(r, hairpinRest/3)
		kernel := map[frontKey]string{}
		chains := map[string]bool{}
		var wish Wish
		for step := range 60 {
			wish = randomWish(rnd)
			tx := r.advance(wish).transaction()
			for _, p := range tx.addChains {
				if chains[p.chain()] {
					t.Fatalf("seed %d, step %d: chain %s added twice", seed, step, p.chain())
				}
				chains[p.chain()] = true
			}
			for _, e := range tx.del {
				if v, ok := kernel[frontKey{e.set, e.key}]; !ok || v != e.value {
					t.Fatalf("seed %d, step %d: deleted what was not there: %s", seed, step, e.describe(f))
				}
				delete(kernel, frontKey{e.set, e.key})
			}
			for _, e := range tx.add {
				if _, ok := kernel[frontKey{e.set, e.key}]; ok {
					t.Fatalf("seed %d, step %d: added twice: %s", seed, step, e.describe(f))
				}
				kernel[frontKey{e.set, e.key}] = e.value
			}
			for k, v := range kernel {
				if specOf(k.set).verdicts() && v != chainRefuse && v != chainNobodyHere && !chains[v] {
					t.Fatalf("seed %d, step %d: %s goes to chain %s, which is not there", seed, step, k.set, v)
				}
				if k.set == setServices || k.set == setNodePorts {
					if _, ok := kernel[frontKey{setWays, v}]; !ok {
						t.Fatalf("seed %d, step %d: no way for %s", seed, step, element{k.set, k.key, v}.describe(f))
					}
				}
			}
			if !maps.Equal(kernel, content(r)) {
				t.Fatalf("seed %d, step %d: transactions do not add up to the elements", seed, step)
			}
		}
		stepping(r, hairpinRest)
		r.advance(wish) // what rested goes
		fresh := newRuleset(f)
		fresh.advance(wish)
		if a, b := unnumbered(f, r), unnumbered(f, fresh); !slices.Equal(a, b) {
			t.Fatalf("seed %d: after many steps\n%s\nat once\n%s", seed, strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
	}
}

// unnumbered is a ruleset's elements without the numbers of endpoints and without ways.
func unnumbered(f family, r *ruleset) []string {
	var out []string
	for k, v := range content(r) {
		e := element{k.set, k.key, v}
		if e.set == setEndpoints {
			local := e.key[len(e.key)-1] != 0 // numbers of local endpoints have their highest byte set
			out = append(out, fmt.Sprint(f.fields([]kind{addr, proto, port}, e.key[:len(e.key)-4]), local, f.fields([]kind{addr, port}, v)))
			continue
		}
		if e.set == setWays || e.set == setSlots {
			continue // ways stay when nobody needs them any more; slots are numbers only
		}
		out = append(out, e.describe(f))
	}
	slices.Sort(out)
	return out
}

func randomWish(rnd *rand.Rand) Wish {
	var all []*changes.Service
	for i := range 8 {
		if rnd.IntN(3) == 0 {
			continue
		}
		s := &changes.Service{
			Name:      changes.Name{Namespace: "d", Service: fmt.Sprintf("s%d", i)},
			Protocol:  []changes.Protocol{changes.TCP, changes.UDP}[rnd.IntN(2)],
			ClusterIP: netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), Port: uint16(80 + rnd.IntN(2)),
			InternalLocal: rnd.IntN(4) == 0, ExternalLocal: rnd.IntN(4) == 0,
		}
		if rnd.IntN(2) == 0 {
			s.NodePort = uint16(30000 + i)
		}
		if rnd.IntN(4) == 0 {
			s.Affinity = time.Duration(1+rnd.IntN(2)) * time.Hour
		}
		for j := range 6 {
			if rnd.IntN(2) == 0 {
				continue
			}
			e := changes.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(j)}), 8080), Local: j%2 == 0}
			s.Endpoints = append(s.Endpoints, e)
			if e.Local && (s.InternalLocal || s.ExternalLocal) {
				s.LocalEndpoints = append(s.LocalEndpoints, e)
			}
		}
		all = append(all, s)
	}
	return Wish{Table: changes.NewTable(all...), NodeAddresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 0, byte(rnd.IntN(3))})}}
}
