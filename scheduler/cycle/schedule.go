package cycle

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/preempt"
)

// chooser picks a node for a pod. It belongs to one goroutine and uses its memory again and again.
type chooser struct {
	cache   *cache.Cache
	plugins *framework.Set

	snapshot *cache.Snapshot
	notebook framework.Notebook
	asked    []*nodeinfo.Node    // the nodes that were filtered: all, or those that PreFilter narrowed the trip to
	answers  []*framework.Status // theirs, at the same places
	narrowed []*nodeinfo.Node    // room for asked
	feasible []*nodeinfo.Node
	raw      []int64
	totals   []int64
}

func newChooser(c *cache.Cache, plugins *framework.Set) *chooser {
	return &chooser{cache: c, plugins: plugins, snapshot: cache.NewSnapshot()}
}

// choose finds the best node for a pod, or says why there is none; an error says that it could not be told.
func (c *chooser) choose(p *nodeinfo.Pod) (node string, refused *refusal, err error) {
	c.asked, c.answers = nil, c.answers[:0]
	c.cache.Refresh(c.snapshot)
	nodes := c.snapshot.Nodes
	if len(nodes) == 0 {
		return "", &refusal{}, nil
	}
	nb := &c.notebook
	nb.Reset()
	if st := c.plugins.PreFilter(nb, p, nodes); !st.OK() {
		if st.Code == framework.Error {
			return "", nil, fmt.Errorf("preparing with %s: %w", st.Plugin, st.Err)
		}
		return "", refuseAll(st, len(nodes)), nil
	}
	c.asked = c.candidates(nodes)
	if err := c.filter(p); err != nil {
		return "", nil, err
	}
	switch len(c.feasible) {
	case 0:
		return "", c.refusal(), nil
	case 1:
		return c.feasible[0].Name, nil, nil
	}
	if promised := c.cache.Nominated(p.UID); promised != "" && c.isFeasible(promised) {
		return promised, nil, nil // others have left it for this pod
	}
	if err := c.score(p); err != nil {
		return "", nil, err
	}
	return c.feasible[pick(c.totals)].Name, nil, nil
}

// reserve keeps what plugins keep for a pod on the node that was just chosen for it.
func (c *chooser) reserve(p *nodeinfo.Pod, node string) (framework.Held, *framework.Status) {
	return c.plugins.Reserve(&c.notebook, p, c.snapshot.Node(node))
}

// candidates are the nodes to be filtered: all, or those that PreFilter narrowed the trip to.
func (c *chooser) candidates(nodes []*nodeinfo.Node) []*nodeinfo.Node {
	names, _, ok := c.notebook.Narrowed()
	if !ok {
		return nodes
	}
	c.narrowed = c.narrowed[:0]
	for _, name := range names {
		if n := c.snapshot.Node(name); n != nil {
			c.narrowed = append(c.narrowed, n)
		}
	}
	return c.narrowed
}

// filter asks every node and leaves the answers in answers, and the nodes that passed in feasible.
func (c *chooser) filter(p *nodeinfo.Pod) error {
	c.answers = resize(c.answers, len(c.asked))
	each(len(c.asked), func(from, to int) {
		for i := from; i < to; i++ {
			c.answers[i] = c.ask(p, c.asked[i])
		}
	})
	c.feasible = c.feasible[:0]
	for i, st := range c.answers {
		switch {
		case st.OK():
			c.feasible = append(c.feasible, c.asked[i])
		case st.Code == framework.Error:
			return fmt.Errorf("filtering node %s with %s: %w", c.asked[i].Name, st.Plugin, st.Err)
		}
	}
	return nil
}

// ask is the answer of one node. Room that is being made for pods at least as important counts as taken; but as they may
// never come, the pod must fit without them too.
func (c *chooser) ask(p *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	if len(n.Nominated) > 0 {
		var before []*nodeinfo.Pod
		for _, other := range n.Nominated {
			if other.UID != p.UID && other.Priority >= p.Priority {
				before = append(before, other)
			}
		}
		if len(before) > 0 {
			if st := c.plugins.Filter(&c.notebook, p, n.With(before)); !st.OK() {
				return st
			}
		}
	}
	return c.plugins.Filter(&c.notebook, p, n)
}

func (c *chooser) isFeasible(name string) bool {
	return slices.ContainsFunc(c.feasible, func(n *nodeinfo.Node) bool { return n.Name == name })
}

// preempt makes a plan for a pod that was just refused everywhere: nil when evicting others does not help. waits says that
// victims are already leaving for it.
func (c *chooser) preempt(p *nodeinfo.Pod) (plan *preempt.Plan, waits bool) {
	if preempt.Waits(p, c.snapshot.Node(c.cache.Nominated(p.UID))) {
		return nil, true
	}
	var helpful []*nodeinfo.Node
	for i, st := range c.answers {
		if st != nil && st.Code == framework.Unschedulable {
			helpful = append(helpful, c.asked[i])
		}
	}
	return preempt.Choose(p, helpful, func(n *nodeinfo.Node) bool { return c.ask(p, n).OK() }), false
}

// score leaves the weighed sum for each feasible node in totals.
func (c *chooser) score(p *nodeinfo.Pod) error {
	nb := &c.notebook
	if st := c.plugins.PreScore(nb, p, c.feasible); !st.OK() {
		return fmt.Errorf("preparing scores with %s: %w", st.Plugin, st.Err)
	}
	c.raw, c.totals = resize(c.raw, len(c.feasible)), resize(c.totals, len(c.feasible))
	clear(c.totals)
	for i := range c.plugins.Scorers() {
		c.plugins.Score(i, nb, p, c.feasible, c.raw, c.totals, each)
	}
	return nil
}

// pick is the place of the highest total; among equals chance decides, so that equal nodes fill evenly.
func pick(totals []int64) int {
	best, equals := 0, 1
	for i := 1; i < len(totals); i++ {
		switch {
		case totals[i] > totals[best]:
			best, equals = i, 1
		case totals[i] == totals[best]:
			equals++
			if rand.IntN(equals) == 0 {
				best = i
			}
		}
	}
	return best
}

// each calls do for the ranges of 0…n, side by side when there are enough to be worth a goroutine.
func each(n int, do func(from, to int)) {
	const share = 256
	workers := min(runtime.GOMAXPROCS(0), n/share)
	if workers < 2 {
		do(0, n)
		return
	}
	var all sync.WaitGroup
	for w := 1; w < workers; w++ {
		all.Go(func() { do(n*w/workers, n*(w+1)/workers) })
	}
	do(0, n/workers)
	all.Wait()
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
