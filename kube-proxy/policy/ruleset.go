package policy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// News is what has changed in the world since the last one.
type News struct {
	Policies   map[Name]*Policy    // nil: gone
	Namespaces map[Name]*Namespace // nil: gone
	Pods       map[Name]*Pod       // nil: gone, or nothing to policies
	Local      []netip.Prefix      // the ranges of this node's pods
}

// linger is how long what nobody needs any more stays in the kernel: longer than a
// packet takes through the rules, and than it takes to replace a pod.
const linger = 10 * time.Second

// ruleset is the desired content of the kernel's table, and moves with the news.
// Owned by the Writer; holds no connection to anything.
type ruleset struct {
	clock func() time.Time
	found *found // what an older run left, while the first news are taken in

	// What the API says.
	local    []netip.Prefix
	policies map[string]map[string]*numbered // by namespace and name
	lastID   int                             // of a policy's content
	spaces   map[string]*space
	pods     map[Name]*pod
	expected map[*pod]struct{} // of this node, without an address yet

	// What it comes to.
	peers      map[string]*namedPeer
	lastPeer   int32
	names      map[portName]int // named by rules for egress, so many times
	addresses  map[netip.Addr]*address
	spans      [2][]placed // of IPv4 and IPv6
	active     [2]int      // which of a family's two maps of spans is asked
	closed     [2]bool     // to addresses of this node that no pod is known to have, by direction
	identities *catalog[who]
	groups     *catalog[*group]
	rights     *catalog[portSet]
	pairs      map[uint32]*entry[portSet] // group and identity to what is open between them
	chains     map[string]bool            // of groups, that are made
}

// namedPeer is a peer that some rule names.
type namedPeer struct {
	peer
	number int32
	refs   int
}

// pod is a pod and where it stands.
type pod struct {
	*Pod
	class *class
}

// address is one address of pods.
type address struct {
	at       netip.Addr
	claims   []*pod // who says it is theirs
	owner    *pod   // who has it
	identity *entry[who]
	sides    [2]*entry[*group] // by direction; nil: not isolated, or not of this node
}

// placed is a span with its number.
type placed struct {
	span
	identity *entry[who]
}

func newRuleset() *ruleset {
	r := &ruleset{
		clock:      time.Now,
		policies:   map[string]map[string]*numbered{},
		spaces:     map[string]*space{},
		pods:       map[Name]*pod{},
		expected:   map[*pod]struct{}{},
		closed:     [2]bool{true, true},
		peers:      map[string]*namedPeer{},
		chains:     map[string]bool{},
		names:      map[portName]int{},
		addresses:  map[netip.Addr]*address{},
		identities: newCatalog[who](1, lastIdentity),
		groups:     newCatalog[*group](1, lastGroup),
		rights:     newCatalog[portSet](firstRight, 1<<32-1),
		pairs:      map[uint32]*entry[portSet]{},
	}
	r.rights.byKey[portSet{all: true}.key()] = &entry[portSet]{number: rightAll, key: portSet{all: true}.key(), content: portSet{all: true}, refs: 1}
	return r
}

// wanted tells whether there is any policy, and so a table at all.
func (r *ruleset) wanted() bool { return len(r.policies) > 0 }

// advance takes in the news and returns the difference they make. Its cost is
// that of the pods, and of the policies and namespaces, that changed.
func (r *ruleset) advance(n News) *difference {
	d := &difference{ruleset: r, elements: map[slot]change{}, dirty: map[*address]bool{}}
	d.sweep()
	d.setLocal(n.Local)

	blocks, names := d.setPolicies(n.Policies)
	d.setNamespaces(n.Namespaces)
	for _, s := range r.spaces {
		if s.stale || names {
			d.review(s)
		}
	}
	for name, p := range n.Pods {
		d.setPod(name, p)
	}
	if blocks {
		d.setSpans()
	}
	d.place()
	d.turn()
	d.close()
	r.identities.numbers.settle()
	r.groups.numbers.settle()
	r.rights.numbers.settle()
	return d
}

// sweep takes out what has rested.
func (d *difference) sweep() {
	then := d.clock().Add(-linger)
	d.identities.sweep(then, func(i *entry[who]) {
		for _, g := range d.groups.byKey {
			d.open(g.number, i.number, portSet{})
		}
	})
	d.groups.sweep(then, func(g *entry[*group]) {
		d.open(g.number, 0, portSet{})
		for _, i := range d.identities.byKey {
			d.open(g.number, i.number, portSet{})
		}
		for _, c := range gates(g) {
			delete(d.chains, c)
			d.delChains = append(d.delChains, c)
		}
	})
	d.rights.sweep(then, func(e *entry[portSet]) {
		for _, x := range e.content.elements(e.number) {
			d.remove(x)
		}
	})
}

func (d *difference) setLocal(now []netip.Prefix) {
	for _, f := range families {
		if f.of(d.local) != f.of(now) {
			d.rewrite = append(d.rewrite, f.name(chainEgress), f.name(chainIngress))
		}
	}
	d.local = now
}

// setPolicies takes in policies, and tells whether blocks or the named ports of
// egress rules have changed. Namespaces whose pods may be concerned become stale.
func (d *difference) setPolicies(changed map[Name]*Policy) (blocks, names bool) {
	count := func(p *Policy, by int) {
		for _, r := range p.rules() {
			for _, q := range r.peers {
				blocks = d.countPeer(q, by) || blocks
			}
		}
		if p.out == nil {
			return
		}
		for _, r := range p.out.rules {
			for _, n := range r.names {
				d.names[n] += by
				switch d.names[n] {
				case 0:
					delete(d.names, n)
					names = true
				case by:
					names = true
				}
			}
		}
	}
	var gone []*Policy
	for name, p := range changed {
		was := d.policies[name.Namespace][name.Name]
		if was == nil && p == nil {
			continue
		}
		d.space(name.Namespace).stale = true
		if was != nil {
			gone = append(gone, was.Policy)
			delete(d.policies[name.Namespace], name.Name)
		}
		if p != nil {
			if d.policies[name.Namespace] == nil {
				d.policies[name.Namespace] = map[string]*numbered{}
			}
			d.lastID++
			d.policies[name.Namespace][name.Name] = &numbered{p, d.lastID}
			count(p, 1)
		}
		if len(d.policies[name.Namespace]) == 0 {
			delete(d.policies, name.Namespace)
		}
	}
	for _, p := range gone { // last, so that peers that stay keep their numbers
		count(p, -1)
	}
	return blocks, names
}

// countPeer counts who names a peer, and tells whether a block came or went.
func (d *difference) countPeer(q peer, by int) (block bool) {
	k := d.peers[q.key]
	if k == nil {
		d.lastPeer++
		k = &namedPeer{peer: q, number: d.lastPeer}
		d.peers[q.key] = k
	}
	was := k.refs
	if k.refs += by; was != 0 && k.refs != 0 {
		return false
	}
	if k.refs == 0 {
		delete(d.peers, q.key)
	}
	if q.block.IsValid() {
		return true
	}
	for _, s := range d.spaces {
		if q.reaches(s) {
			s.stale = true
		}
	}
	return false
}

func (d *difference) setNamespaces(changed map[Name]*Namespace) {
	for name, n := range changed {
		s := d.space(name.Name)
		s.stale, s.known, s.labels = true, n != nil, nil
		if n != nil {
			s.labels = labelsOf(n.labels)
		}
	}
}

// review finds out again what matches the pods of a namespace.
func (d *difference) review(s *space) {
	if !s.known && len(s.classes) == 0 {
		delete(d.spaces, s.name) // another is made if it is asked for
		return
	}
	if s.stale {
		d.index(s)
	}
	for _, c := range s.classes {
		if who, rules := c.match(d.names); who || rules {
			for p := range c.pods {
				if who || p.Local {
					d.touch(p)
				}
			}
		}
	}
}

// touch marks a pod's addresses to be placed again.
func (d *difference) touch(p *pod) {
	for _, a := range p.Addresses {
		d.dirty[d.addresses[a]] = true
	}
}

// setPod takes in one pod.
func (d *difference) setPod(name Name, now *Pod) {
	if was := d.pods[name]; was != nil {
		d.touch(was)
		for _, a := range was.Addresses {
			x := d.addresses[a]
			x.claims = slices.DeleteFunc(x.claims, func(p *pod) bool { return p == was })
		}
		d.leave(was)
		delete(d.pods, name)
	}
	if now == nil {
		return
	}
	p := &pod{Pod: now, class: d.classOf(now)}
	d.pods[name] = p
	p.class.pods[p] = struct{}{}
	if p.Local && len(p.Addresses) == 0 {
		d.expected[p] = struct{}{}
	}
	if p.Local {
		if p.class.local++; p.class.local == 1 {
			p.class.selectors()
		}
	}
	for _, a := range now.Addresses {
		x := d.addresses[a]
		if x == nil {
			x = &address{at: a}
			d.addresses[a] = x
		}
		x.claims = append(x.claims, p)
	}
	d.touch(p)
}

// leave takes a pod out of its class.
func (d *difference) leave(p *pod) {
	c := p.class
	delete(c.pods, p)
	delete(d.expected, p)
	if p.Local {
		c.local--
	}
	if len(c.pods) == 0 {
		delete(c.space.classes, classKey{p.labels, p.ports})
	}
}

// setSpans cuts the address space anew. All addresses of pods are placed again:
// each may be in other blocks than before.
func (d *difference) setSpans() {
	blocks := map[int32]peer{}
	for _, k := range d.peers {
		if k.block.IsValid() {
			blocks[k.number] = k.peer
		}
	}
	for i, f := range families {
		now := spans(blocks, f.v6)
		if slices.EqualFunc(d.spans[i], now, func(a placed, b span) bool {
			return a.lo == b.lo && a.hi == b.hi && slices.Equal(a.peers, b.peers)
		}) {
			continue
		}
		d.recut[i] = true
		for _, p := range d.spans[i] {
			d.identities.drop(p.identity, d.clock())
		}
		d.spans[i] = make([]placed, len(now))
		for j, s := range now {
			d.spans[i][j].span = s
		}
		for _, a := range d.addresses {
			if a.at.Is6() == f.v6 {
				d.dirty[a] = true
			}
		}
	}
}

// turn has the other map of spans asked where the spans have changed, unless an
// older run left them as they should be.
func (d *difference) turn() {
	for i, f := range families {
		if !d.recut[i] || d.found != nil && maps.Equal(d.found.spans[f.name(spanSets[d.active[i]])], spanElements(d.spans[i])) {
			continue
		}
		d.active[i] = 1 - d.active[i]
		d.rewrite = append(d.rewrite, f.name(chainWhoFrom), f.name(chainWhoTo))
	}
}

// close decides what to do with addresses of this node that no pod is known to
// have: a new pod must not send or receive before we know whether it may. If some
// pod is expected here, it is likely theirs; and they are open to all if none of
// those is isolated.
func (d *difference) close() {
	for _, dir := range []direction{ingress, egress} {
		closed := len(d.expected) == 0
		for p := range d.expected {
			closed = closed || p.class.groupKey(dir) != ""
		}
		if closed != d.closed[dir] {
			d.closed[dir] = closed
			d.rewrite = append(d.rewrite, chainUnknown[dir])
		}
	}
}

// claimant is who should have the address: of several the youngest.
func (a *address) claimant() *pod {
	if len(a.claims) == 0 {
		return nil
	}
	return slices.MaxFunc(a.claims, func(p, q *pod) int {
		return cmp.Or(cmp.Compare(p.Created, q.Created), cmp.Compare(p.Name.Namespace, q.Name.Namespace), cmp.Compare(p.Name.Name, q.Name.Name))
	})
}
