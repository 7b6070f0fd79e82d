// Package cycle takes one pod after another from the queue to a node. Choosing is one goroutine, and fast: it touches only
// memory. Each binding has its own goroutine, because it waits for the API; what was chosen counts in the cache at once, as
// assumed, so the next choice sees it.
//
//	Pop ─▶ choose: snapshot · prefilter · filter · score · pick ─▶ reserve · assume ─▶ (own goroutine) permit · prebind · bind ─▶ Done
//	          │ no node                                                                   │ refused, or failed
//	          ▼                                                                           ▼
//	        fail: condition and event, Park;                    unreserve · forget · Retry, or Done if the pod is gone
//	        first (own goroutine) evictions, if they make room
//
// What always holds: a pod popped ends with exactly one of Done, Park and Retry; a pod assumed and not bound is forgotten;
// when nobody can say whether it was bound, the API is asked before it is forgotten.
package cycle

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/queue"
)

// Parts is what the cycle works with.
type Parts struct {
	Queue   *queue.Queue
	Cache   *cache.Cache
	Plugins *framework.Set
	API     API
	Events  record.EventRecorder
	Metrics *Metrics
	// Ready waits until the cache holds all that the API has: choosing on half a picture would overfill nodes.
	Ready func(context.Context) error
}

// Cycle is the loop. Make it with New; Run it once a term, one term after another. It alone refreshes the cache's snapshot, so
// there is one Cycle a cache.
type Cycle struct {
	Parts
	log      *zap.Logger
	chooser  *chooser
	reporter *reporter // of this term; set by Run
	flights  sync.WaitGroup
	slots    chan struct{} // a token each that is under way
}

// maxFlights is how many bindings and preemptions may wait for the API at once; then choosing waits too.
const maxFlights = 256

// New makes a cycle; nothing runs yet.
func New(parts Parts, log *zap.Logger) *Cycle {
	log = log.Named("cycle")
	return &Cycle{
		Parts:   parts,
		log:     log,
		chooser: newChooser(parts.Cache, parts.Plugins),
		slots:   make(chan struct{}, maxFlights),
	}
}

// Run schedules until ctx ends.
func (c *Cycle) Run(ctx context.Context) error {
	if err := c.Ready(ctx); err != nil {
		return fmt.Errorf("waiting for the first picture of the cluster: %w", err)
	}
	c.reporter = newReporter(c.API, c.log) // what an older term wanted to say is no longer ours to say
	c.flights.Go(func() { c.reporter.run(ctx) })
	defer c.flights.Wait()
	for {
		it, err := c.Queue.Pop(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		c.one(ctx, it)
	}
}

// one is one pod's trip up to its binding's goroutine.
func (c *Cycle) one(ctx context.Context, it *queue.Item) {
	begun := time.Now()
	if c.Cache.Knows(it.Pod.UID) {
		c.Queue.Done(it) // its node was seen while it waited
		return
	}
	node, refused, err := c.chooser.choose(it.Pod)
	var held framework.Held
	if err == nil && refused == nil {
		held, err = c.take(it.Pod, node)
	}
	switch {
	case err != nil:
		c.broken(it, err, begun)
		return
	case refused != nil:
		c.unschedulable(ctx, it, refused, begun)
		return
	}
	c.reporter.drop(it.Pod.UID)
	if held != 0 { // it may wait for minutes, for which it gets no slot
		c.flights.Go(func() { c.bind(ctx, it, node, held, begun) })
		return
	}
	c.fly(ctx, func() { c.bind(ctx, it, node, 0, begun) })
}

// take makes what was chosen count for the pods that come after: its place on the node, and what plugins keep for it.
func (c *Cycle) take(p *nodeinfo.Pod, node string) (framework.Held, error) {
	held, st := c.chooser.reserve(p, node)
	if !st.OK() {
		return 0, fmt.Errorf("reserving with %s: %s", st.Plugin, st.Message())
	}
	if err := c.Cache.Assume(p, node); err != nil {
		c.Plugins.Unreserve(held, p)
		return 0, err
	}
	return held, nil
}

// fly runs the part of a trip that waits for the API in a goroutine of its own, when there is a slot. When the term ends first, do
// runs nevertheless: it fails at once, and gives the pod back to the queue, which the next term goes on with.
func (c *Cycle) fly(ctx context.Context, do func()) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		c.flights.Go(do)
		return
	}
	c.flights.Go(func() {
		defer func() { <-c.slots }()
		do()
	})
}
