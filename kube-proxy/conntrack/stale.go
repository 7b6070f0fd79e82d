package conntrack

import (
	"net/netip"
	"slices"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/nftables"
)

// look is the fronts whose flows need a look, and who may answer there now.
type look map[netip.AddrPort]answer

// answer says which flows of a front are right.
type answer struct {
	gone      bool // the front is no more: flows that were redirected are stale, others are not ours
	endpoints map[netip.AddrPort]bool
	leaving   map[netip.AddrPort]bool // these keep only their streams
}

// flow is what counts of a flow: whom it asked, who answers it, and whether it is
// brief: a question and its answer, no stream.
type flow struct {
	asked, answers netip.AddrPort
	brief          bool
}

// match tells whether a flow is stale: one that asked a front and is answered by
// somebody who should not.
func (l look) match(f flow) bool {
	a, ok := l[f.asked]
	if !ok {
		return false
	}
	if a.gone {
		return f.asked != f.answers
	}
	return !a.endpoints[f.answers] && (f.brief || !a.leaving[f.answers])
}

// stale finds the fronts to look at: those of UDP services that are new, gone,
// or have lost an endpoint. As long as an endpoint serves it keeps the streams
// it has, also when it terminates or new flows go elsewhere, as with TCP. Its brief
// flows are over, but for the table, in which they live for half a minute more: a
// client that has the same port again would be sent there, and find nobody once
// the endpoint has ended. They go when new flows no longer come to it. A front
// that only gained endpoints has no stale flow, unless it had none before: then
// there may be flows from before that were not redirected.
func stale(was, now nftables.Wish) look {
	gone, came := changes.Compare(table(was), table(now))
	if !slices.Equal(was.NodeAddresses, now.NodeAddresses) {
		gone, came = table(was).Services(), table(now).Services()
	}
	out := look{}
	before := map[changes.Name]*changes.Service{}
	for _, s := range gone {
		if s.Protocol != changes.UDP {
			continue
		}
		before[s.Name] = s
		for _, f := range fronts(s, was.NodeAddresses) {
			out[f] = answer{gone: true}
		}
	}
	for _, s := range came {
		if s.Protocol != changes.UDP {
			continue
		}
		keep := map[netip.AddrPort]bool{}
		for _, list := range [][]changes.Endpoint{s.Endpoints, s.LocalEndpoints} {
			for _, e := range list {
				keep[e.Addr] = true
			}
		}
		leaving := map[netip.AddrPort]bool{}
		for _, a := range s.Leaving {
			leaving[a] = true
		}
		old := before[s.Name]
		for _, f := range fronts(s, now.NodeAddresses) {
			if _, had := out[f]; had && old != nil && onlyGained(old, keep) {
				delete(out, f)
				continue
			}
			out[f] = answer{endpoints: keep, leaving: leaving}
		}
	}
	return out
}

// table is a wish's table; the wish before the first has none.
func table(w nftables.Wish) *changes.Table {
	if w.Table == nil {
		return &changes.Table{}
	}
	return w.Table
}

// onlyGained tells whether whoever answered before still does.
func onlyGained(old *changes.Service, keep map[netip.AddrPort]bool) bool {
	if len(old.Endpoints)+len(old.LocalEndpoints) == 0 {
		return false
	}
	for _, list := range [][]changes.Endpoint{old.Endpoints, old.LocalEndpoints} {
		for _, e := range list {
			if !keep[e.Addr] {
				return false
			}
		}
	}
	for _, a := range old.Leaving {
		if !keep[a] {
			return false
		}
	}
	return true
}

// fronts is everywhere a service is reached.
func fronts(s *changes.Service, nodes []netip.Addr) []netip.AddrPort {
	out := []netip.AddrPort{netip.AddrPortFrom(s.ClusterIP, s.Port)}
	for _, a := range s.External {
		out = append(out, netip.AddrPortFrom(a, s.Port))
	}
	if s.NodePort != 0 {
		for _, a := range nodes {
			out = append(out, netip.AddrPortFrom(a, s.NodePort))
		}
	}
	return out
}
