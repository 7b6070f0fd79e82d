package framework

import (
	"context"
	"fmt"
	"math/bits"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/scheduler/nodeinfo"
)

// Entry is a line of the plugin table.
type Entry struct {
	Name   string
	New    func(Parts) Plugin
	Weight int64 // of its score; 0 when it has none
}

// Parts is what plugins are made of that look at more than pods and nodes. With no informers they see an empty cluster.
type Parts struct {
	Kube kubernetes.Interface
	// Informers are those of the feed, not yet started: what a plugin asks them for is filled before the first trip.
	Informers informers.SharedInformerFactory
}

// Set is the plugins of a scheduler, sorted by the points at which they speak; within a point in the table's order.
// Immutable and safe for concurrent use.
type Set struct {
	preEnqueue []PreEnqueuer
	preFilter  []preFilter
	filter     []Filterer
	preScore   []preScore
	score      []weighed
	reserve    []reserver
	permit     []Permitter
	hints      map[string]func(*nodeinfo.Pod, Event) bool
}

type preFilter struct {
	PreFilterer
	filter int // its place in Set.filter, -1
}

type reserver struct {
	Reserver
	bind   PreBinder // the same plugin, nil when it has no such point
	filter int       // its place in Set.filter, -1
}

// Held says which plugins keep something for a pod; 0: none does.
type Held uint64

type preScore struct {
	PreScorer
	score int // its place in Set.score, -1
}

type weighed struct {
	Scorer
	weight int64
}

// NewSet makes the plugins of a table. It panics when the table is broken: two equal names, more than 64 plugins, a weight
// without a score.
func NewSet(table []Entry, parts Parts) *Set {
	if parts.Informers == nil {
		parts.Informers = informers.NewSharedInformerFactory(parts.Kube, 0) // never started
	}
	s := &Set{hints: map[string]func(*nodeinfo.Pod, Event) bool{}}
	if len(table) > 64 {
		panic("more than 64 scheduler plugins: the notebook's bit sets are too small")
	}
	seen := map[string]bool{}
	for _, e := range table {
		if seen[e.Name] {
			panic(fmt.Sprintf("scheduler plugin %s stands twice in the table", e.Name))
		}
		seen[e.Name] = true
		s.add(e, e.New(parts))
	}
	return s
}

func (s *Set) add(e Entry, p Plugin) {
	if p.Name() != e.Name {
		panic(fmt.Sprintf("scheduler plugin %s calls itself %s", e.Name, p.Name()))
	}
	filter, score := -1, -1
	if v, ok := p.(Filterer); ok {
		filter = len(s.filter)
		s.filter = append(s.filter, v)
	}
	if v, ok := p.(Scorer); ok && e.Weight > 0 {
		score = len(s.score)
		s.score = append(s.score, weighed{v, e.Weight})
	} else if e.Weight > 0 {
		panic(fmt.Sprintf("scheduler plugin %s has a weight but no score", e.Name))
	}
	if v, ok := p.(PreEnqueuer); ok {
		s.preEnqueue = append(s.preEnqueue, v)
	}
	if v, ok := p.(PreFilterer); ok {
		s.preFilter = append(s.preFilter, preFilter{v, filter})
	}
	if v, ok := p.(PreScorer); ok && e.Weight > 0 {
		s.preScore = append(s.preScore, preScore{v, score})
	}
	if v, ok := p.(Reserver); ok {
		r := reserver{Reserver: v, filter: filter}
		r.bind, _ = p.(PreBinder)
		s.reserve = append(s.reserve, r)
	}
	if v, ok := p.(Permitter); ok {
		s.permit = append(s.permit, v)
	}
	if v, ok := p.(Hinter); ok {
		s.hints[e.Name] = v.Helps
	}
}

// PreEnqueue asks whether a pod may enter the queue; the first that refuses ends it.
func (s *Set) PreEnqueue(p *nodeinfo.Pod) *Status {
	for _, plugin := range s.preEnqueue {
		if st := plugin.PreEnqueue(p); !st.OK() {
			return st
		}
	}
	return nil
}

// PreFilter prepares a trip; the first that refuses ends it.
func (s *Set) PreFilter(nb *Notebook, p *nodeinfo.Pod, nodes []*nodeinfo.Node) *Status {
	for i := range s.preFilter {
		st := s.preFilter[i].PreFilter(nb, p, nodes)
		switch {
		case st == nil || st.Code == Success:
		case st.Code == Skip:
			if at := s.preFilter[i].filter; at >= 0 {
				nb.skipFilter |= 1 << at
			}
		default:
			return st
		}
	}
	for i, plugin := range s.filter {
		if nb.skipFilter&(1<<i) == 0 {
			nb.filters = append(nb.filters, plugin)
		}
	}
	return nil
}

// Filter asks for one node, after PreFilter has passed, nil when the pod may stand there; the first that refuses ends it.
func (s *Set) Filter(nb *Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *Status {
	for _, plugin := range nb.filters {
		if st := plugin.Filter(nb, p, n); !st.OK() {
			return st
		}
	}
	return nil
}

// PreScore prepares scoring.
func (s *Set) PreScore(nb *Notebook, p *nodeinfo.Pod, nodes []*nodeinfo.Node) *Status {
	for i := range s.preScore {
		st := s.preScore[i].PreScore(nb, p, nodes)
		switch {
		case st == nil || st.Code == Success:
		case st.Code == Skip:
			nb.skipScore |= 1 << s.preScore[i].score
		default:
			return st
		}
	}
	return nil
}

// Scorers is how many plugins give scores.
func (s *Set) Scorers() int { return len(s.score) }

// Score adds to totals what one plugin gives to each node, weighed. raw is room for as many numbers. each calls its function
// for every index below n, perhaps side by side.
func (s *Set) Score(i int, nb *Notebook, p *nodeinfo.Pod, nodes []*nodeinfo.Node, raw, totals []int64, each func(n int, do func(from, to int))) {
	if nb.skipScore&(1<<i) != 0 {
		return
	}
	plugin := s.score[i]
	each(len(nodes), func(from, to int) {
		for j := from; j < to; j++ {
			raw[j] = plugin.Score(nb, p, nodes[j])
		}
	})
	if n, ok := plugin.Scorer.(Normalizer); ok {
		n.Normalize(nb, nodes, raw)
	}
	for j := range totals {
		totals[j] += raw[j] * plugin.weight
	}
}

// Permit asks whether the pod may be bound now; the first that refuses ends it.
func (s *Set) Permit(ctx context.Context, p *nodeinfo.Pod, node string) *Status {
	for _, plugin := range s.permit {
		if st := plugin.Permit(ctx, p, node); !st.OK() {
			return st
		}
	}
	return nil
}

// Reserve has kept what a pod needs on the node that was chosen for it. When one plugin refuses, nothing is held.
func (s *Set) Reserve(nb *Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) (held Held, st *Status) {
	for i := range s.reserve {
		r := &s.reserve[i]
		if r.filter >= 0 && nb.skipFilter&(1<<r.filter) != 0 {
			continue
		}
		switch st := r.Reserve(nb, p, n); {
		case st == nil || st.Code == Success:
			held |= 1 << i
		case st.Code != Skip:
			s.Unreserve(held, p)
			return 0, st
		}
	}
	return held, nil
}

// PreBind makes true what is held; the first that fails ends it. Nothing is given back.
func (s *Set) PreBind(ctx context.Context, held Held, p *nodeinfo.Pod, node string) *Status {
	for h := uint64(held); h != 0; h &= h - 1 {
		if r := &s.reserve[bits.TrailingZeros64(h)]; r.bind != nil {
			if st := r.bind.PreBind(ctx, p, node); !st.OK() {
				return st
			}
		}
	}
	return nil
}

// Unreserve gives back what is held.
func (s *Set) Unreserve(held Held, p *nodeinfo.Pod) {
	for h := uint64(held); h != 0; h &= h - 1 {
		s.reserve[bits.TrailingZeros64(h)].Unreserve(p)
	}
}

// Helps says whether an event could make a pod schedulable that this plugin refused.
func (s *Set) Helps(plugin string, p *nodeinfo.Pod, e Event) bool {
	helps, ok := s.hints[plugin]
	return !ok || helps(p, e)
}
