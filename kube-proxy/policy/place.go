package policy

import (
	"net/netip"
	"slices"
)

// place finds for every address that was touched what it is to others, and by
// which group it is isolated.
func (d *difference) place() {
	now := d.clock()
	var whos []move[who]
	var groups []move[*group]
	touched := make([]*address, 0, len(d.dirty))
	for a := range d.dirty {
		touched = append(touched, a)
	}
	slices.SortFunc(touched, func(a, b *address) int { return a.at.Compare(b.at) })

	for _, a := range touched {
		for _, e := range a.elements() {
			d.remove(e)
		}
		was := *a
		a.owner, a.identity, a.sides = a.claimant(), nil, [2]*entry[*group]{}
		if was.identity != nil {
			d.identities.drop(was.identity, now)
		}
		for _, g := range was.sides {
			if g != nil {
				d.groups.drop(g, now)
			}
		}
		if a.owner == nil {
			delete(d.addresses, a.at)
			continue
		}
		if w, ok := d.whoIs(a); ok {
			whos = append(whos, move[who]{
				from: was.identity, key: w.key(), wish: d.found.identity(a.at),
				make: func() who { return w }, done: func(e *entry[who]) { a.identity = e },
			})
		}
		if !a.owner.Local {
			continue
		}
		for _, dir := range []direction{ingress, egress} {
			if key := a.owner.class.groupKey(dir); key != "" {
				groups = append(groups, move[*group]{
					from: was.sides[dir], key: key, wish: d.found.group(a.at, dir),
					make: func() *group { return a.owner.class.group(dir, d.peerID) },
					done: func(e *entry[*group]) { a.sides[dir] = e },
				})
			}
		}
	}
	for i := range families {
		if !d.recut[i] {
			continue
		}
		for j := range d.spans[i] {
			s := &d.spans[i][j]
			w := who{peers: s.peers}
			whos = append(whos, move[who]{
				key: w.key(), wish: d.found.span(s.lo), make: func() who { return w }, done: func(e *entry[who]) { s.identity = e },
			})
		}
	}

	freshGroups := d.groups.settle(groups)
	freshIdentities := d.identities.settle(whos)
	for _, g := range freshGroups {
		d.short = d.short || g.number == 0
		for _, c := range gates(g) {
			if !d.chains[c] {
				d.chains[c] = true
				d.addChains = append(d.addChains, c)
			}
		}
	}
	for _, a := range touched {
		for _, e := range a.elements() {
			d.put(e)
		}
	}
	if len(freshIdentities) > 0 {
		groups := d.groups.sorted()
		for _, i := range freshIdentities {
			d.short = d.short || i.number == 0
			for _, g := range groups {
				d.judge(g, i)
			}
		}
	}
	if len(freshGroups) > 0 {
		identities := d.identities.sorted()
		for _, g := range freshGroups {
			d.open(g.number, 0, g.content.base)
			for _, i := range identities {
				d.judge(g, i)
			}
		}
	}
}

// whoIs tells what an address of a pod is to the rules; false: no more than any
// address there.
func (d *difference) whoIs(a *address) (who, bool) {
	c := a.owner.class
	if len(c.peers)+len(c.names) == 0 {
		return who{}, false
	}
	w := who{peers: c.peers, names: c.names}
	i := 0
	if a.at.Is6() {
		i = 1
	}
	if blocks := within(d.spans[i], a.at); len(blocks) > 0 {
		w.peers = slices.Concat(c.peers, blocks)
		slices.Sort(w.peers)
	}
	return w, true
}

func (d *difference) peerID(p peer) int32 { return d.peers[p.key].number }

// judge notes what is open between a group and an identity. What is open to
// anyone is noted under identity 0, and need not be noted again.
func (d *difference) judge(g *entry[*group], i *entry[who]) {
	if i.number == 0 {
		return
	}
	ports := g.content.allows(i.content)
	if ports.equal(g.content.base) {
		ports = portSet{}
	}
	d.open(g.number, i.number, ports)
}

// open notes which ports are open to a pair.
func (d *difference) open(g, i uint32, ports portSet) {
	if g == 0 {
		return // the numbers have run out: closed
	}
	k := pairKey(g, i)
	was := d.pairs[k]
	if ports.empty() && was == nil || was != nil && was.content.equal(ports) {
		return
	}
	if was != nil {
		d.remove(element{set: setRights, key: join(k), value: join(was.number)})
		d.rights.drop(was, d.clock())
		delete(d.pairs, k)
	}
	if ports.empty() {
		return
	}
	now := d.rights.find(ports.key())
	if now == nil {
		now = d.rights.add(ports.key(), ports, d.found.right(ports))
		for _, e := range ports.elements(now.number) {
			d.put(e)
		}
	}
	d.pairs[k] = now
	d.put(element{set: setRights, key: join(k), value: join(now.number)})
}

// elements are what the kernel knows of an address.
func (a *address) elements() []element {
	if a.owner == nil {
		return nil
	}
	f := familyOf(a.at)
	var out []element
	if a.identity != nil {
		out = append(out, element{f.name(setPeers), join(a.at), join(a.identity.number)})
	}
	if !a.owner.Local {
		return out
	}
	out = append(out,
		element{f.name(setReceivers), join(a.at), verdictOf(a.sides[ingress], f)},
		element{f.name(setSenders), join(a.at), verdictOf(a.sides[egress], f)})
	if a.sides[ingress] != nil || a.sides[egress] != nil {
		out = append(out, element{set: f.name(setSelf), key: join(a.at, a.at)})
	}
	return out
}

func verdictOf(g *entry[*group], f family) string {
	if g == nil {
		return verdictReturn
	}
	return gateOf(g, f).String()
}

// address families in one order.
var families = [2]family{{v6: false}, {v6: true}}

func familyOf(a netip.Addr) family {
	if a.Is6() {
		return families[1]
	}
	return families[0]
}
