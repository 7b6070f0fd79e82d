package changes

import (
	"net/netip"
	"slices"
	"unique"
)

// place is where this node is.
type place struct {
	node unique.Handle[string]
	zone unique.Handle[string] // «»: in none
}

// candidate is an endpoint of a service port. Facts are never changed.
type candidate struct {
	addr netip.AddrPort
	*fact
}

func (c candidate) here(at place) bool { return c.node != noName && c.node == at.node }

// chosen is which endpoints answer for whom.
type chosen struct {
	cluster []Endpoint       // for those who may be sent anywhere
	local   []Endpoint       // for those whom a policy keeps on this node
	leaving []netip.AddrPort // still serve, though nobody new is sent to them
	ready   int              // of this node
}

// choose decides which endpoints answer for whom.
//
// Ready endpoints answer. Where none is ready, those answer that still serve
// while they terminate, so a rollout of a service with one endpoint loses no
// connection that it could have kept. Hints narrow the first set only, and only
// if every ready endpoint has one and at least one points here.
func choose(all []candidate, at place) chosen {
	answering := pick(all, func(c candidate) bool { return c.state.is(ready) })
	if len(answering) == 0 {
		answering = pick(all, func(c candidate) bool { return c.state.is(serving | terminating) })
	} else {
		answering = hinted(answering, at)
	}
	mine := endpoints(pick(all, func(c candidate) bool { return c.here(at) && c.state.is(ready) }), at)
	out := chosen{cluster: endpoints(answering, at), local: mine, ready: len(mine)}
	if len(mine) == 0 {
		out.local = endpoints(pick(all, func(c candidate) bool { return c.here(at) && c.state.is(serving|terminating) }), at)
	}
	for _, c := range all {
		if c.state.is(serving) && !has(out.cluster, c.addr) && !has(out.local, c.addr) {
			out.leaving = append(out.leaving, c.addr)
		}
	}
	slices.SortFunc(out.leaving, netip.AddrPort.Compare)
	out.leaving = slices.Compact(out.leaving)
	return out
}

// has tells whether a sorted list has an address.
func has(all []Endpoint, a netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(all, a, func(e Endpoint, a netip.AddrPort) int { return e.Addr.Compare(a) })
	return found
}

func pick(all []candidate, ok func(candidate) bool) []candidate {
	var out []candidate
	for _, x := range all {
		if ok(x) {
			out = append(out, x)
		}
	}
	return out
}

// hinted keeps what is hinted to this node, else to this zone, else all.
func hinted(ready []candidate, at place) []candidate {
	for _, by := range []struct {
		me    unique.Handle[string]
		hints func(*hints) []unique.Handle[string]
	}{
		{at.node, func(h *hints) []unique.Handle[string] { return h.nodes }},
		{at.zone, func(h *hints) []unique.Handle[string] { return h.zones }},
	} {
		hintless := func(c candidate) bool { return c.hints == nil || len(by.hints(c.hints)) == 0 }
		if by.me == noName || slices.ContainsFunc(ready, hintless) {
			continue
		}
		if near := pick(ready, func(c candidate) bool { return slices.Contains(by.hints(c.hints), by.me) }); len(near) > 0 {
			return near
		}
	}
	return ready
}

// endpoints sorts by address and drops repeats: two slices may both name an
// endpoint while it moves between them.
func endpoints(all []candidate, at place) []Endpoint {
	if len(all) == 0 {
		return nil
	}
	out := make([]Endpoint, 0, len(all))
	for _, c := range all {
		out = append(out, Endpoint{Addr: c.addr, Local: c.here(at)})
	}
	slices.SortFunc(out, func(a, b Endpoint) int {
		if c := a.Addr.Compare(b.Addr); c != 0 || a.Local == b.Local {
			return c
		}
		if a.Local { // whoever says it is here knows more
			return -1
		}
		return 1
	})
	return slices.CompactFunc(out, func(a, b Endpoint) bool { return a.Addr == b.Addr })
}
