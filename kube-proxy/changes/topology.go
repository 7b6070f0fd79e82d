package changes

import (
	"net/netip"
	"slices"
)

// place is where this node is.
type place struct {
	node string
	zone string
}

// choose decides which endpoints answer for whom: cluster for those who may be
// sent anywhere, local for those whom a policy keeps on this node.
//
// Ready endpoints answer. Where none is ready, those answer that still serve
// while they terminate, so a rollout of a service with one endpoint loses no
// connection that it could have kept. Hints narrow the first set only, and only
// if every ready endpoint has one and at least one points here.
func choose(facts []fact, at place) (cluster, local []Endpoint) {
	ready := pick(facts, func(x fact) bool { return x.ready })
	if len(ready) == 0 {
		ready = pick(facts, func(x fact) bool { return x.serving && x.terminating })
	} else {
		ready = hinted(ready, at)
	}
	here := func(x fact) bool { return x.node != "" && x.node == at.node }
	mine := pick(facts, func(x fact) bool { return here(x) && x.ready })
	if len(mine) == 0 {
		mine = pick(facts, func(x fact) bool { return here(x) && x.serving && x.terminating })
	}
	return endpoints(ready, at), endpoints(mine, at)
}

func pick(facts []fact, ok func(fact) bool) []fact {
	var out []fact
	for _, x := range facts {
		if ok(x) {
			out = append(out, x)
		}
	}
	return out
}

// hinted keeps what is hinted to this node, else to this zone, else all.
func hinted(ready []fact, at place) []fact {
	for _, by := range []struct {
		me    string
		hints func(fact) []string
	}{
		{at.node, func(x fact) []string { return x.nodes }},
		{at.zone, func(x fact) []string { return x.zones }},
	} {
		if by.me == "" || slices.ContainsFunc(ready, func(x fact) bool { return len(by.hints(x)) == 0 }) {
			continue
		}
		if near := pick(ready, func(x fact) bool { return slices.Contains(by.hints(x), by.me) }); len(near) > 0 {
			return near
		}
	}
	return ready
}

// endpoints sorts by address and drops repeats: two slices may both name an
// endpoint while it moves between them.
func endpoints(facts []fact, at place) []Endpoint {
	seen := make(map[netip.AddrPort]int, len(facts))
	var out []Endpoint
	for _, x := range facts {
		local := x.node != "" && x.node == at.node
		if i, ok := seen[x.addr]; ok {
			out[i].Local = out[i].Local || local
			continue
		}
		seen[x.addr] = len(out)
		out = append(out, Endpoint{Addr: x.addr, Local: local})
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return a.Addr.Compare(b.Addr) })
	return out
}
