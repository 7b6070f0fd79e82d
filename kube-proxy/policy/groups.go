package policy

import (
	"encoding/binary"
	"slices"
)

// who is what an address is to the rules: the peers it is one of, and the named
// ports that rules may ask it for. Addresses that are alike share an identity.
type who struct {
	peers []int32 // sorted
	names []namedPort
}

func (w who) key() string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4*len(w.peers)+4), uint32(len(w.peers)))
	for _, p := range w.peers {
		b = binary.BigEndian.AppendUint32(b, uint32(p))
	}
	if len(w.names) > 0 {
		b = append(b, joinPorts(slices.Clone(w.names))...)
	}
	return string(b)
}

// group is what isolated pods have in common: the same policies, and the same
// numbers for the ports these name.
type group struct {
	direction direction
	open      portSet    // to or from anyone
	openNames []portName // ports of anyone, by name
	rules     []groupRule
	byPeer    map[int32][]int // in rules
	base      portSet         // what nobody in particular may use
}

type groupRule struct {
	ports portSet
	names []portName
}

// groupKey names the group of a class in a direction; «» if no policy isolates.
func (c *class) groupKey(d direction) string {
	var b []byte
	var names []namedPort
	for _, p := range c.policies {
		s := p.side(d)
		if s == nil {
			continue
		}
		b = binary.BigEndian.AppendUint64(b, uint64(p.number))
		if d == ingress {
			for _, r := range s.rules {
				names = append(names, c.resolve(r.names)...)
			}
		}
	}
	if len(b) == 0 {
		return ""
	}
	head := binary.BigEndian.AppendUint32([]byte{byte(d)}, uint32(len(b)))
	return string(head) + string(b) + joinPorts(names)
}

// resolve finds which of the class's ports are named.
func (c *class) resolve(names []portName) (out []namedPort) {
	for _, n := range names {
		for _, p := range c.ports {
			if p.portName == n {
				out = append(out, p)
			}
		}
	}
	return out
}

// group gathers what the policies of a class allow in a direction. ids finds the
// number of a peer.
func (c *class) group(d direction, ids func(peer) int32) *group {
	g := &group{direction: d, byPeer: map[int32][]int{}}
	for _, p := range c.policies {
		s := p.side(d)
		if s == nil {
			continue
		}
		for _, r := range s.rules {
			gr := groupRule{ports: r.ports, names: r.names}
			if d == ingress {
				gr.ports, gr.names = gr.ports.with(c.resolve(r.names), nil), nil
			}
			if r.anyone {
				g.open = g.open.union(gr.ports)
				g.openNames = append(g.openNames, gr.names...)
				continue
			}
			for _, q := range r.peers {
				g.byPeer[ids(q)] = append(g.byPeer[ids(q)], len(g.rules))
			}
			g.rules = append(g.rules, gr)
		}
	}
	g.base = g.allows(who{})
	return g
}

// with adds named ports to a set; asked limits which, unless it is nil.
func (p portSet) with(named []namedPort, asked []portName) portSet {
	for _, n := range named {
		if asked == nil || slices.Contains(asked, n.portName) {
			p = p.union(portSet{ranges: []portRange{{n.proto, n.port, n.port}}})
		}
	}
	return p
}

// allows is the ports open between the group and an identity.
func (g *group) allows(w who) portSet {
	out := g.open
	if len(g.openNames) > 0 {
		out = out.with(w.names, g.openNames)
	}
	for _, p := range w.peers {
		for _, i := range g.byPeer[p] {
			r := g.rules[i]
			out = out.union(r.ports)
			if len(r.names) > 0 {
				out = out.with(w.names, r.names)
			}
		}
	}
	return out
}
