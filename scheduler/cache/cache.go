// Package cache is the scheduler's picture of who stands where: all nodes, all pods that have a node, and the pods that were
// given one a moment ago and are not yet seen to have it. The feed writes what the API tells, the cycle what it decided;
// Snapshot gives the cycle a copy to choose on.
//
// The life of a pod here, by UID:
//
//	          Assume                     Add, Update (seen with a node)
//	(none) ───────────▶ assumed ───────────────────────────▶ confirmed ──┐
//	   ▲                   │                                    ▲  │     │ Update
//	   │      Forget       │              Add, Update           │  └─────┘
//	   ├───────────────────┘   (none) ──────────────────────────┘  │
//	   │                                                           │
//	   └─────────────────────────── Remove ────────────────────────┘  (of an assumed pod too)
//
// What the API tells wins: a pod assumed on one node and seen on another is moved. Forget of a confirmed pod does nothing,
// so a binding that fails after its success was seen does no harm. An assumed pod stays until it is confirmed, forgotten
// or removed; there is no timeout, because whoever assumed it ends it, and a deletion always reaches the feed.
//
// A pod that has no node may be nominated to one, for which others are being evicted; having a node ends the nomination.
//
// A node that goes while pods are on it is kept, without its object and outside snapshots, until the last of them has gone.
package cache

import (
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/scheduler/nodeinfo"
)

// Cache is safe for concurrent use.
type Cache struct {
	mu sync.Mutex

	// Guarded by mu.
	nodes map[string]*nodeinfo.Node
	pods  map[types.UID]*entry // INVARIANT: each stands on exactly the node it names
	// INVARIANT: dirty holds the name of every node that differs from the last Snapshot.
	dirty      map[string]struct{}
	structure  bool                     // a node came or went since the last Snapshot
	nominated  map[types.UID]nomination // INVARIANT: none of these pods is in pods
	generation uint64
	assumed    int
}

type nomination struct {
	pod  *nodeinfo.Pod
	node string
}

type entry struct {
	pod     *nodeinfo.Pod
	node    string
	assumed bool
}

// New makes an empty cache.
func New() *Cache {
	return &Cache{
		nodes: map[string]*nodeinfo.Node{}, pods: map[types.UID]*entry{},
		dirty: map[string]struct{}{}, nominated: map[types.UID]nomination{},
	}
}

// Assume puts a pod on a node before the API knows of it.
func (c *Cache) Assume(p *nodeinfo.Pod, on string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.pods[p.UID]; ok {
		return fmt.Errorf("pod %s is already on node %s", p.Key(), e.node)
	}
	c.putLocked(&entry{pod: p, node: on, assumed: true})
	return nil
}

// Forget takes an assumed pod off its node. It says whether the pod was assumed; a confirmed or unknown one stays as it is.
func (c *Cache) Forget(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.pods[uid]
	if !ok || !e.assumed {
		return false
	}
	c.dropLocked(e)
	return true
}

// Set notes a pod as the API tells it: it has a node, and has not finished. It returns the version known before, nil when
// there was none.
func (c *Cache) Set(p *nodeinfo.Pod) (before *nodeinfo.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.pods[p.UID]; ok {
		before = e.pod
		c.dropLocked(e)
	}
	c.putLocked(&entry{pod: p, node: p.Spec.NodeName})
	return before
}

// Remove notes that a pod is gone or has finished. It returns the pod as it was known on a node or nominated to one, nil when
// it was not.
func (c *Cache) Remove(uid types.UID) *nodeinfo.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.nominated[uid]; ok {
		c.renounceLocked(uid)
		return n.pod
	}
	e, ok := c.pods[uid]
	if !ok {
		return nil
	}
	c.dropLocked(e)
	return e.pod
}

// Nominate notes that room is being made on a node for a pod that has none, in place of an older nomination.
func (c *Cache) Nominate(p *nodeinfo.Pod, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pods[p.UID]; ok {
		return
	}
	c.renounceLocked(p.UID)
	c.nominated[p.UID] = nomination{p, to}
	n := c.nodeLocked(to)
	n.Nominated = append(n.Nominated, p)
	c.dirty[to] = struct{}{}
}

// Renounce undoes Nominate. It returns the pod that was nominated, nil when it was not.
func (c *Cache) Renounce(uid types.UID) *nodeinfo.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.nominated[uid].pod
	c.renounceLocked(uid)
	return old
}

// Nominated is the node that a pod was nominated to, empty when it was not.
func (c *Cache) Nominated(uid types.UID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nominated[uid].node
}

// Knows says whether the pod has a node, assumed or confirmed.
func (c *Cache) Knows(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.pods[uid]
	return ok
}

// SetNode notes a node as the API tells it.
func (c *Cache) SetNode(object *corev1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodeLocked(object.Name)
	if n.Object == nil {
		c.structure = true
	}
	n.SetObject(object)
	c.dirty[n.Name] = struct{}{}
}

// RemoveNode notes that a node is gone.
func (c *Cache) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[name]
	if !ok || n.Object == nil {
		return
	}
	n.SetObject(nil)
	c.structure = true
	c.tidyLocked(n)
}

// HasNode says whether the API has a node of this name.
func (c *Cache) HasNode(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[name]
	return ok && n.Object != nil
}

// Size is how many nodes, pods and, among these, assumed pods there are.
func (c *Cache) Size() (nodes, pods, assumed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.nodes), len(c.pods), c.assumed
}

func (c *Cache) nodeLocked(name string) *nodeinfo.Node {
	n, ok := c.nodes[name]
	if !ok {
		n = nodeinfo.NewNode(name)
		c.nodes[name] = n
	}
	return n
}

func (c *Cache) renounceLocked(uid types.UID) {
	old, ok := c.nominated[uid]
	if !ok {
		return
	}
	delete(c.nominated, uid)
	n := c.nodes[old.node]
	n.Nominated = slices.DeleteFunc(n.Nominated, func(p *nodeinfo.Pod) bool { return p.UID == uid })
	c.dirty[n.Name] = struct{}{}
	c.tidyLocked(n)
}

func (c *Cache) putLocked(e *entry) {
	c.renounceLocked(e.pod.UID)
	c.pods[e.pod.UID] = e
	if e.assumed {
		c.assumed++
	}
	n := c.nodeLocked(e.node)
	n.Add(e.pod)
	c.dirty[n.Name] = struct{}{}
}

func (c *Cache) dropLocked(e *entry) {
	delete(c.pods, e.pod.UID)
	if e.assumed {
		c.assumed--
	}
	n := c.nodes[e.node]
	if !n.Remove(e.pod.UID) {
		panic(fmt.Sprintf("cache: pod %s is not on node %s, where it is noted", e.pod.Key(), e.node))
	}
	c.dirty[n.Name] = struct{}{}
	c.tidyLocked(n)
}

// tidyLocked drops a node of which nothing is left.
func (c *Cache) tidyLocked(n *nodeinfo.Node) {
	if n.Object == nil && len(n.Pods) == 0 && len(n.Nominated) == 0 {
		delete(c.nodes, n.Name)
		delete(c.dirty, n.Name)
	}
}
