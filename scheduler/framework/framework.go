// Package framework is the contract between the scheduler's cycle and its plugins: the points at which a plugin may speak,
// the Status it answers with, the Notebook it writes in, the Event that may change its mind, and the Set that calls all
// plugins in order.
//
// A plugin is a value with a name; it takes part at each point whose interface it satisfies:
//
//	PreEnqueue   may this pod enter the queue at all
//	PreFilter    once a trip, before any node is looked at; may narrow the choice or end the trip
//	Filter       once a node: may the pod stand there
//	PreScore     once a trip, with the nodes that are left
//	Score        once a node left: how good is it; Normalize then brings the numbers to 0…MaxScore
//	Reserve      after a node was chosen: keep what the pod needs there from the pods that come after it; Unreserve gives it back
//	Permit       in the binding's own goroutine: may it be bound now
//	PreBind      there too, for what was reserved: make it true before the pod is bound; this may take minutes
//	Helps        could this event make a pod schedulable that this plugin refused
//
// Filter and Score are called for several nodes at the same time and must not change anything. The others up to Reserve are called
// one after another, one trip after another; the rest beside later trips. Nothing that a plugin is handed may be kept or changed, except what it writes in the Notebook.
package framework

import (
	"context"

	"pilothouse.dev/scheduler/nodeinfo"
)

// MaxScore is the best normalized score; the worst is 0.
const MaxScore int64 = 100

// Plugin is what all plugins are.
type Plugin interface {
	Name() string
}

// PreEnqueuer keeps pods out of the queue.
type PreEnqueuer interface {
	Plugin
	PreEnqueue(p *nodeinfo.Pod) *Status
}

// PreFilterer prepares a trip. Skip means that the plugin's Filter has nothing to say to this pod and is not called.
type PreFilterer interface {
	Plugin
	PreFilter(nb *Notebook, p *nodeinfo.Pod, nodes []*nodeinfo.Node) *Status
}

// Filterer refuses nodes.
type Filterer interface {
	Plugin
	Filter(nb *Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *Status
}

// PreScorer prepares scoring over the nodes that passed. Skip means that the plugin's Score is not called.
type PreScorer interface {
	Plugin
	PreScore(nb *Notebook, p *nodeinfo.Pod, nodes []*nodeinfo.Node) *Status
}

// Scorer rates nodes: higher is better.
type Scorer interface {
	Plugin
	Score(nb *Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) int64
}

// Normalizer brings a Scorer's numbers for all nodes of a trip to 0…MaxScore, in place. A Scorer without it must keep to
// that range by itself.
type Normalizer interface {
	Normalize(nb *Notebook, nodes []*nodeinfo.Node, scores []int64)
}

// Permitter may hold a binding back for a while, or stop it.
type Permitter interface {
	Plugin
	Permit(ctx context.Context, p *nodeinfo.Pod, node string) *Status
}

// Reserver keeps things for pods. Skip means that there was nothing to keep; it is not asked either when its PreFilter has said
// Skip. What was kept ends with PreBind's success, or with Unreserve.
type Reserver interface {
	Plugin
	Reserve(nb *Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *Status
	// Unreserve must do no harm when nothing is kept for the pod.
	Unreserve(p *nodeinfo.Pod)
}

// PreBinder is a Reserver with work to do before the pod is bound. The pod may go meanwhile, and then ctx ends.
type PreBinder interface {
	Reserver
	PreBind(ctx context.Context, p *nodeinfo.Pod, node string) *Status
}

// Hinter says whether an event could make a pod schedulable that this plugin refused. Without it every event is tried.
type Hinter interface {
	Plugin
	Helps(p *nodeinfo.Pod, e Event) bool
}
