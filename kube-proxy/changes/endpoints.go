package changes

import (
	"net/netip"
	"slices"
	"unique"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// slice is what one EndpointSlice says, in as little memory as may be: clusters
// have many endpoints.
type slice struct {
	name      string
	ports     []slicePort
	endpoints []fact
}

// slicePort is one port that all endpoints of a slice have.
type slicePort struct {
	name string
	port uint16
}

// fact is what a slice says of one endpoint.
type fact struct {
	addr  netip.Addr
	node  unique.Handle[string] // «»: unknown
	hints *hints                // nil: none
	state state
}

// state is an endpoint's conditions.
type state uint8

const (
	ready state = 1 << iota
	serving
	terminating
)

func (s state) is(all state) bool { return s&all == all }

// hints say for whom an endpoint is.
type hints struct {
	zones, nodes []unique.Handle[string]
}

func (s *slice) equal(o *slice) bool {
	return slices.Equal(s.ports, o.ports) && slices.EqualFunc(s.endpoints, o.endpoints, func(a, b fact) bool {
		return a.addr == b.addr && a.node == b.node && a.state == b.state && a.hints.equal(b.hints)
	})
}

func (h *hints) equal(o *hints) bool {
	if h == nil || o == nil {
		return h == o
	}
	return slices.Equal(h.zones, o.zones) && slices.Equal(h.nodes, o.nodes)
}

// readSlice reads an EndpointSlice; nothing of it is kept.
func readSlice(s *discoveryv1.EndpointSlice, f family) (slice, bool) {
	want := discoveryv1.AddressTypeIPv4
	if f == ipv6 {
		want = discoveryv1.AddressTypeIPv6
	}
	if s.AddressType != want {
		return slice{}, false
	}
	out := slice{name: s.Name}
	for _, p := range s.Ports {
		if p.Port == nil { // «all ports»: nothing a service port could be sent to
			continue
		}
		sp := slicePort{port: uint16(*p.Port)}
		if p.Name != nil {
			sp.name = intern(*p.Name).Value()
		}
		out.ports = append(out.ports, sp)
	}
	if len(out.ports) == 0 {
		return slice{}, false
	}
	out.endpoints = make([]fact, 0, len(s.Endpoints))
	for i := range s.Endpoints {
		if x, ok := readEndpoint(&s.Endpoints[i], f); ok {
			out.endpoints = append(out.endpoints, x)
		}
	}
	return out, len(out.endpoints) > 0
}

// readEndpoint reads one endpoint. Consumers must take the first address only;
// an unset condition means ready and serving, and not terminating.
func readEndpoint(e *discoveryv1.Endpoint, f family) (fact, bool) {
	if len(e.Addresses) == 0 {
		return fact{}, false
	}
	a, ok := f.parse(e.Addresses[0])
	if !ok {
		return fact{}, false
	}
	x := fact{addr: a, node: noName}
	c := e.Conditions
	if c.Ready == nil || *c.Ready {
		x.state |= ready | serving
	}
	if c.Serving != nil {
		if x.state &^= serving; *c.Serving {
			x.state |= serving
		}
	}
	if c.Terminating != nil && *c.Terminating {
		x.state |= terminating
	}
	if e.NodeName != nil {
		x.node = intern(*e.NodeName)
	}
	if e.Hints != nil && len(e.Hints.ForZones)+len(e.Hints.ForNodes) > 0 {
		x.hints = &hints{}
		for _, z := range e.Hints.ForZones {
			x.hints.zones = append(x.hints.zones, intern(z.Name))
		}
		for _, n := range e.Hints.ForNodes {
			x.hints.nodes = append(x.hints.nodes, intern(n.Name))
		}
	}
	return x, true
}

// intern keeps one copy of a name that many endpoints have.
func intern(s string) unique.Handle[string] { return unique.Make(s) }

// noName is of an endpoint that says no node, and of a node in no zone.
var noName = intern("")
