package nftables

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"

	"pilothouse.dev/kube-proxy/changes"
)

// rendered is one service port as elements of sets and maps.
type rendered struct {
	fronts []renderedFront
	shared []element // wanted by this service, maybe by others too

	// Which endpoint has which number. Kept from one rendering to the next.
	numbers numbers
	locals  numbers
}

// numbers is who is drawn at which number.
type numbers struct {
	drawn []netip.AddrPort // by number from 0, without gaps

	// With affinity each endpoint has a name besides, also a number, that stays
	// while it is there: clients are remembered by it, and one endpoint less must
	// not take another's clients away. Else nil.
	names []uint32
}

// renderedFront is one name of a service (an address or the node port) and all
// that hangs on it.
type renderedFront struct {
	entry    element // in services or node-ports: the front's name to its chain
	pick     pick
	elements []element
}

// render is the elements for one service port. It is pure: was, the rendering
// before (or nil), only decides who keeps which number, so that an endpoint that
// comes or goes changes its own elements and not its neighbours'. nodes are this
// node's addresses.
func render(s *changes.Service, was *rendered, f family, nodes []netip.Addr) *rendered {
	out := &rendered{}
	if was == nil {
		was = out
	}
	out.numbers = was.numbers.move(s.Endpoints, s.Affinity > 0)
	out.locals = was.locals.move(s.LocalEndpoints, s.Affinity > 0)

	base := pick{count: len(out.numbers.drawn), locals: len(out.locals.drawn), sticky: s.Affinity, hashed: s.Protocol == changes.UDP}
	inside, outside := base, base
	inside.front, inside.local = frontCluster, s.InternalLocal
	outside.local = s.ExternalLocal

	out.add(f, setServices, inside, s.ClusterIP, s.Protocol, s.Port)
	for _, a := range s.External {
		outside.front, outside.ranged = frontExternal, len(s.SourceRanges) > 0 && slices.Contains(s.LoadBalancer, a)
		out.add(f, setServices, outside, a, s.Protocol, s.Port)
		if outside.ranged {
			out.restrict(f, s, a, nodes)
		}
	}
	outside.ranged = false
	if s.NodePort != 0 {
		outside.front = frontNode
		out.add(f, setNodePorts, outside, f.anywhere, s.Protocol, s.NodePort)
	}

	out.shared = append(out.shared, element{set: setClusters, key: join(s.ClusterIP)})
	for _, list := range [][]changes.Endpoint{s.Endpoints, s.LocalEndpoints} {
		for _, e := range list {
			if e.Local {
				out.shared = append(out.shared, element{set: setHairpin, key: join(e.Addr.Addr(), e.Addr.Addr())})
			}
		}
	}
	slices.SortFunc(out.shared, element.compare)
	out.shared = slices.Compact(out.shared)
	return out
}

// add renders one front. where, over and at name the service in all maps.
func (r *rendered) add(f family, set string, p pick, where netip.Addr, over changes.Protocol, at uint16) {
	front := renderedFront{pick: p.plain(), entry: element{set: set, key: join(where, over, at), value: join(p.plain())}}
	if set == setNodePorts {
		front.entry.key = join(over, at)
	}
	if !p.local || p.front != frontCluster { // else nobody goes anywhere but here
		front.number(r.numbers, 0, where, over, at)
	}
	if p.local {
		front.number(r.locals, localNumbers, where, over, at)
	}
	r.fronts = append(r.fronts, front)
}

// number adds a front's endpoints, numbered from first.
func (f *renderedFront) number(n numbers, first uint32, where netip.Addr, over changes.Protocol, at uint16) {
	f.elements = slices.Grow(f.elements, len(n.drawn)+len(n.names))
	for i, e := range n.drawn {
		number := first + uint32(i)
		if n.names != nil {
			name := first + n.names[i]
			f.elements = append(f.elements, element{setSlots, join(where, over, at, number), join(name)})
			number = name
		}
		f.elements = append(f.elements, element{setEndpoints, join(where, over, at, number), join(e.Addr(), e.Port())})
	}
}

// restrict adds the ranges that may call the front added last, a load balancer's
// address. Where this machine has that address itself, its processes call it from
// that very address: they may, if this machine may.
func (r *rendered) restrict(f family, s *changes.Service, at netip.Addr, nodes []netip.Addr) {
	ranges := s.SourceRanges
	mine := func(p netip.Prefix) bool { return slices.ContainsFunc(nodes, p.Contains) }
	itself := func(p netip.Prefix) bool { return p.Contains(at) }
	if slices.ContainsFunc(ranges, mine) && !slices.ContainsFunc(ranges, itself) {
		ranges = append(slices.Clone(ranges), netip.PrefixFrom(at, f.all))
	}
	front := &r.fronts[len(r.fronts)-1]
	for _, p := range ranges {
		key := join(at, s.Protocol, s.Port, p.Masked().Addr()) + join(at, s.Protocol, s.Port, lastOf(p))
		front.elements = append(front.elements, element{set: setRanges, key: key})
	}
}

// lastOf is the highest address in a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// move numbers the endpoints there are now.
func (n numbers) move(now []changes.Endpoint, named bool) numbers {
	out := numbers{drawn: assign(n.drawn, now)}
	if !named {
		return out
	}
	had := make(map[netip.AddrPort]uint32, len(n.names))
	for i, name := range n.names {
		had[n.drawn[i]] = name
	}
	used := make(map[uint32]bool, len(now))
	for _, a := range out.drawn {
		if name, ok := had[a]; ok {
			used[name] = true
		}
	}
	next := uint32(0)
	for _, a := range out.drawn {
		name, ok := had[a]
		if !ok {
			for used[next] {
				next++
			}
			name = next
			used[name] = true
		}
		out.names = append(out.names, name)
	}
	return out
}

// assign gives each endpoint a number from 0 up without gaps; who had one that
// is still small enough keeps it.
func assign(was []netip.AddrPort, now []changes.Endpoint) []netip.AddrPort {
	if len(now) == 0 {
		return nil
	}
	out := make([]netip.AddrPort, len(now))
	wanted := make(map[netip.AddrPort]bool, len(now))
	for _, e := range now {
		wanted[e.Addr] = true
	}
	for i, a := range was {
		if i < len(out) && wanted[a] {
			out[i] = a
			delete(wanted, a)
		}
	}
	next := 0
	for _, e := range now {
		if !wanted[e.Addr] {
			continue
		}
		for out[next].IsValid() {
			next++
		}
		out[next] = e.Addr
	}
	return out
}

func (e element) compare(o element) int {
	if c := cmp.Compare(e.set, o.set); c != 0 {
		return c
	}
	if c := cmp.Compare(e.key, o.key); c != 0 {
		return c
	}
	return cmp.Compare(e.value, o.value)
}

// numbersIn reads which endpoint has which number out of the kernel's elements.
func numbersIn(elements map[frontKey]string, s *changes.Service, first uint32) numbers {
	var out numbers
	for {
		number := first + uint32(len(out.drawn))
		if s.Affinity > 0 {
			v, ok := elements[frontKey{setSlots, join(s.ClusterIP, s.Protocol, s.Port, number)}]
			if !ok || len(v) != 4 {
				return out
			}
			number = binaryutil.NativeEndian.Uint32([]byte(v))
		}
		v, ok := elements[frontKey{setEndpoints, join(s.ClusterIP, s.Protocol, s.Port, number)}]
		n := len(v) - 4
		if !ok || n < 4 {
			return out
		}
		a, _ := netip.AddrFromSlice([]byte(v[:n]))
		out.drawn = append(out.drawn, netip.AddrPortFrom(a, binary.BigEndian.Uint16([]byte(v[n:]))))
		if s.Affinity > 0 {
			out.names = append(out.names, number-first)
		}
	}
}
