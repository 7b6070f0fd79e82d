package policy

import (
	"cmp"
	"slices"
	"unique"

	"k8s.io/apimachinery/pkg/labels"
)

// space is a namespace: its labels, what may match pods in it, and its pods by class.
type space struct {
	name   string
	known  bool // the namespace's object was seen; until then only its own policies' peers match
	labels labels.Set

	peers    index[int32]     // of pods, that may be in this namespace
	policies index[*numbered] // of this namespace
	classes  map[classKey]*class
	stale    bool // peers and policies must be made again
}

// class is all pods of a namespace with the same labels and the same named
// ports. What matches them is found once.
type class struct {
	space  *space
	labels labels.Set
	ports  []namedPort
	pods   map[*pod]struct{}

	peers []int32     // that match, sorted
	names []namedPort // those of its ports that rules for egress name, sorted
	// Policies that select it, by number. Kept for pods of this node only.
	policies []*numbered
	local    int // pods of this node
}

type classKey struct{ labels, ports unique.Handle[string] }

// numbered is a policy under the number of its newest content.
type numbered struct {
	*Policy
	number int
}

func (r *ruleset) space(name string) *space {
	s := r.spaces[name]
	if s == nil {
		s = &space{name: name, classes: map[classKey]*class{}, stale: true}
		r.spaces[name] = s
	}
	return s
}

// classOf finds a pod's class, or makes it.
func (r *ruleset) classOf(p *Pod) *class {
	s := r.space(p.Name.Namespace)
	k := classKey{p.labels, p.ports}
	c := s.classes[k]
	if c == nil {
		if s.stale {
			r.index(s)
		}
		c = &class{space: s, labels: labelsOf(p.labels.Value()), ports: portsOf(p.ports.Value()), pods: map[*pod]struct{}{}}
		c.match(r.names)
		s.classes[k] = c
	}
	return c
}

// index finds out what may match pods of a namespace.
func (r *ruleset) index(s *space) {
	s.stale, s.peers, s.policies = false, index[int32]{}, index[*numbered]{}
	for _, p := range r.peers {
		if !p.block.IsValid() && p.reaches(s) {
			s.peers.add(p.pods, p.number)
		}
	}
	for _, p := range r.policies[s.name] {
		s.policies.add(p.target, p)
	}
}

// reaches tells whether the peer's pods may be in a namespace.
func (p *peer) reaches(s *space) bool {
	if p.namespaces == nil {
		return p.namespace == s.name
	}
	return s.known && p.namespaces.Matches(s.labels)
}

// match finds out again what matches the class, and tells what has changed:
// who its pods are to others, and which policies isolate those of this node.
func (c *class) match(named map[portName]int) (who, rules bool) {
	var peers []int32
	c.space.peers.match(c.labels, func(id int32) { peers = append(peers, id) })
	slices.Sort(peers)
	var names []namedPort
	for _, p := range c.ports {
		if named[p.portName] > 0 {
			names = append(names, p)
		}
	}
	who = !slices.Equal(peers, c.peers) || !slices.Equal(names, c.names)
	c.peers, c.names = peers, names
	return who, c.selectors()
}

// selectors finds the policies that select the class's pods on this node.
func (c *class) selectors() bool {
	var policies []*numbered
	if c.local > 0 {
		c.space.policies.match(c.labels, func(p *numbered) { policies = append(policies, p) })
		slices.SortFunc(policies, func(a, b *numbered) int { return cmp.Compare(a.number, b.number) })
	}
	changed := !slices.Equal(policies, c.policies)
	c.policies = policies
	return changed
}
