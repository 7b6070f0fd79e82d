package changes

import (
	"net/netip"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// fact is what one EndpointSlice says about one endpoint of one port.
type fact struct {
	addr        netip.AddrPort
	node        string
	ready       bool
	serving     bool
	terminating bool
	zones       []string // hinted to; empty: no hint
	nodes       []string // hinted to; empty: no hint
}

// slicePorts reads an EndpointSlice: the facts of each named port.
func slicePorts(s *discoveryv1.EndpointSlice, f family) map[string][]fact {
	want := discoveryv1.AddressTypeIPv4
	if f == ipv6 {
		want = discoveryv1.AddressTypeIPv6
	}
	if s.AddressType != want {
		return nil
	}
	out := make(map[string][]fact, len(s.Ports))
	for _, p := range s.Ports {
		if p.Port == nil { // «all ports»: nothing a service port could be sent to
			continue
		}
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		for i := range s.Endpoints {
			if x, ok := readEndpoint(&s.Endpoints[i], uint16(*p.Port), f); ok {
				out[name] = append(out[name], x)
			}
		}
	}
	return out
}

// readEndpoint reads one endpoint. Consumers must take the first address only;
// an unset condition means ready and serving, and not terminating.
func readEndpoint(e *discoveryv1.Endpoint, port uint16, f family) (fact, bool) {
	if len(e.Addresses) == 0 {
		return fact{}, false
	}
	a, ok := f.parse(e.Addresses[0])
	if !ok {
		return fact{}, false
	}
	c := e.Conditions
	x := fact{
		addr:        netip.AddrPortFrom(a, port),
		ready:       c.Ready == nil || *c.Ready,
		terminating: c.Terminating != nil && *c.Terminating,
	}
	x.serving = x.ready
	if c.Serving != nil {
		x.serving = *c.Serving
	}
	if e.NodeName != nil {
		x.node = *e.NodeName
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			x.zones = append(x.zones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			x.nodes = append(x.nodes, n.Name)
		}
	}
	return x, true
}
