package garbagecollector

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// kind is a kind of objects as discovered.
type kind struct {
	gvr        schema.GroupVersionResource
	name       string // Deployment
	namespaced bool
}

// identity names one object.
type identity struct {
	kind            *kind
	namespace, name string
	uid             types.UID
}

func (id identity) String() string {
	s := id.kind.gvr.GroupResource().String() + " "
	if id.namespace != "" {
		s += id.namespace + "/"
	}
	return s + id.name
}

// graph is who names whom as owner. An owner that is named and was never seen has a node without a kind. Safe for concurrent
// use. Its changes return the UIDs that must be looked at.
type graph struct {
	mu    sync.Mutex
	nodes map[types.UID]*node // guarded by mu
	gone  map[types.UID]bool  // guarded by mu: seen deleted; UIDs never come again
	order []types.UID         // guarded by mu: gone, oldest first
}

type node struct {
	identity
	owners     []owner
	dependents map[types.UID]*node // nil while there are none

	going      bool // being deleted
	foreground bool // with the finalizer foregroundDeletion
	orphan     bool // with the finalizer orphan
}

type owner struct {
	uid    types.UID
	blocks bool // it waits for us, if deleted in the foreground
}

// remembered is how many deletions are remembered; of older ones the API server must be asked.
const remembered = 20000

func newGraph() *graph { return &graph{nodes: map[types.UID]*node{}, gone: map[types.UID]bool{}} }

func (n *node) waits() bool { return n.kind != nil && n.going && n.foreground }

// put takes in an object as it is now.
func (g *graph) put(k *kind, o *metav1.PartialObjectMetadata) (wake []types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodeLocked(o.UID)
	waited := n.waits()
	n.identity = identity{kind: k, namespace: o.Namespace, name: o.Name, uid: o.UID}
	n.going = o.DeletionTimestamp != nil
	n.foreground = has(o.Finalizers, metav1.FinalizerDeleteDependents)
	n.orphan = has(o.Finalizers, metav1.FinalizerOrphanDependents)
	before := n.owners
	n.owners = nil
	for _, ref := range o.OwnerReferences {
		n.owners = append(n.owners, owner{ref.UID, ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion})
	}
	wake = g.relinkLocked(n, before)
	if n.going && (n.foreground || n.orphan) {
		wake = append(wake, n.uid)
	}
	if n.waits() && !waited {
		for uid := range n.dependents {
			wake = append(wake, uid)
		}
	}
	return wake
}

// relinkLocked brings the owners' lists of dependents in line, and wakes: us, when an owner is not surely there; a waiting
// owner that we no longer block.
func (g *graph) relinkLocked(n *node, before []owner) (wake []types.UID) {
	for _, old := range before {
		if slices.Contains(n.owners, old) {
			continue
		}
		o := g.nodes[old.uid]
		if o == nil {
			continue
		}
		if o.waits() {
			wake = append(wake, o.uid)
		}
		if !slices.ContainsFunc(n.owners, func(x owner) bool { return x.uid == old.uid }) {
			g.unlinkLocked(o, n)
		}
	}
	doubt := false
	for _, now := range n.owners {
		o := g.nodeLocked(now.uid)
		if o.dependents == nil {
			o.dependents = map[types.UID]*node{}
		}
		o.dependents[n.uid] = n
		if _, sure := stateOf(o, n, g.gone); !sure || o.waits() {
			doubt = true
		}
	}
	if doubt || slices.ContainsFunc(n.owners, func(o owner) bool { return g.gone[o.uid] }) {
		wake = append(wake, n.uid)
	}
	return wake
}

// drop takes an object out. surely: it was deleted, and has not only left our sight.
func (g *graph) drop(uid types.UID, surely bool) (wake []types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if surely && !g.gone[uid] {
		g.gone[uid] = true
		g.order = append(g.order, uid)
		if len(g.order) > remembered {
			delete(g.gone, g.order[0])
			g.order = g.order[1:]
		}
	}
	n := g.nodes[uid]
	if n == nil {
		return nil
	}
	owners := n.owners
	n.owners = nil
	wake = g.relinkLocked(n, owners)
	for d := range n.dependents {
		wake = append(wake, d)
	}
	n.kind, n.going, n.foreground, n.orphan = nil, false, false, false
	if len(n.dependents) == 0 {
		delete(g.nodes, uid)
	}
	return wake
}

func (g *graph) nodeLocked(uid types.UID) *node {
	n := g.nodes[uid]
	if n == nil {
		n = &node{identity: identity{uid: uid}}
		g.nodes[uid] = n
	}
	return n
}

func (g *graph) unlinkLocked(o, dependent *node) {
	delete(o.dependents, dependent.uid)
	if o.kind == nil && len(o.dependents) == 0 {
		delete(g.nodes, o.uid)
	}
}

// stateOf is what the graph knows of an owner. It is not sure of one it never saw, nor of one in another namespace: references
// do not reach there, so the API server must say what the name means here.
func stateOf(o, dependent *node, gone map[types.UID]bool) (s ownerState, sure bool) {
	switch {
	case gone[o.uid]:
		return dangling, true
	case o.kind == nil:
		return dangling, false
	case o.namespace != "" && o.namespace != dependent.namespace:
		return dangling, false
	case o.waits():
		return waiting, true
	}
	return solid, true
}

// view is a node and its surroundings at one moment.
type view struct {
	id                        identity
	going, foreground, orphan bool
	owners                    []types.UID
	states                    map[types.UID]ownerState // of owners the graph is sure of
	dependents                []identity
	blocking                  int  // dependents that a foreground deletion waits for
	circular                  bool // a dependent waits for its own dependents
}

func (g *graph) view(uid types.UID) (view, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil || n.kind == nil {
		return view{}, false
	}
	v := view{id: n.identity, going: n.going, foreground: n.foreground, orphan: n.orphan, states: map[types.UID]ownerState{}}
	for _, o := range n.owners {
		v.owners = append(v.owners, o.uid)
		if s, sure := stateOf(g.nodes[o.uid], n, g.gone); sure {
			v.states[o.uid] = s
		}
	}
	for _, d := range n.dependents {
		v.dependents = append(v.dependents, d.identity)
		v.circular = v.circular || d.waits()
		if slices.ContainsFunc(d.owners, func(o owner) bool { return o.uid == uid && o.blocks }) {
			v.blocking++
		}
	}
	return v, true
}

// size is for tests and logs.
func (g *graph) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.nodes)
}
