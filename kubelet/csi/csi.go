// Package csi speaks to the drivers of this node that provide volumes by the Container Storage Interface
// (https://github.com/container-storage-interface/spec/blob/master/spec.md, https://kubernetes-csi.github.io/docs/), and tells the API what the
// node has of them.
//
// plugins hands it drivers (Register), volumes asks it for a pod's volumes (Publish, Unpublish, Stats), node for what is in use (Contribute). A
// volume goes through
//
//	noted ──▶ in use, told by the node ──▶ attached ──▶ staged once for the node ──▶ published to the pod ──▶ its group's, grown ──▶ ready
//	unpublished, when the pod ends ──▶ unstaged, when no pod has it ──▶ not in use
//
// What always holds: what is done is noted on the disk before it is done, and what is undone is forgotten after it was undone (records.go), so a
// kubelet that ends at any line finds what to undo; a volume is unstaged only while its lock is held and no pod has it noted; a volume that is
// ready and mounted is left alone, whether its driver is there or not; nothing is unmounted here: that is the drivers'.
//
// It leaves to others: what a claim leads to (volumes), attaching (the controller manager and the drivers' attachers), growing what the node has
// no part in (the drivers' resizers).
package csi

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	patience = 2 * time.Minute // of one call of a driver
	attached = 123 * time.Second
	often    = time.Minute // how often volumes are published again, and looked at whether they have grown
)

// Tokens gets the tokens of pods' service accounts.
type Tokens interface {
	Token(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (token string, renew time.Time, err error)
}

// Recorder tells users what happened.
type Recorder interface {
	Eventf(object runtime.Object, kind, reason, format string, args ...any)
}

// Parts are what drivers need.
type Parts struct {
	Kube kubernetes.Interface
	// Nodes has this node, Objects the CSIDriver objects; both informers are run by their factory.
	Nodes, Objects cache.SharedIndexInformer
	Tokens         Tokens
	Events         Recorder
}

// Drivers are those of this node. Safe for concurrent use.
type Drivers struct {
	node  string // set once, as all in this group
	disk  disk
	parts Parts
	log   *zap.Logger
	turns turns
	took  *prometheus.HistogramVec
	// idle has something to read when a volume may have lost its last pod, told when the API is to be told of drivers.
	idle, told chan struct{}
	arrived    atomic.Bool // a driver was registered since tidy has looked

	mu      sync.Mutex
	drivers map[string]driver // that are registered; guarded by mu, as all below
	gone    map[string]bool   // that were, in this life of the kubelet
	live    map[string]Volume // what is published, by target
	inUse   []corev1.UniqueVolumeName
	counted bool          // inUse is what the disk says
	moved   chan struct{} // closed when the node has changed
	nudge   func()        // has the node's status told soon
}

// driver is one that is registered.
type driver struct {
	name, endpoint string
	took           *prometheus.HistogramVec
	info           nodeInfo
	asked          time.Time // when it was asked for info
}

// New stores what it is given: the node's name, and the kubelet's folder.
func New(node, root string, parts Parts, log *zap.Logger) *Drivers {
	return &Drivers{
		node: node, disk: disk{root}, parts: parts, log: log.Named("csi"), turns: turns{held: map[string]*turn{}},
		took: newTook(), idle: make(chan struct{}, 1), told: make(chan struct{}, 1),
		drivers: map[string]driver{}, gone: map[string]bool{}, live: map[string]Volume{}, moved: make(chan struct{}), nudge: func() {},
	}
}

// Collectors are the metrics of calls.
func (d *Drivers) Collectors() []prometheus.Collector { return []prometheus.Collector{d.took} }

// Run works until ctx ends; nudge has the node's status told soon.
func (d *Drivers) Run(ctx context.Context, nudge func()) error {
	d.mu.Lock()
	d.nudge = nudge
	d.mu.Unlock()
	reg, err := d.parts.Nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { d.nodeChanged(nil, o) },
		UpdateFunc: d.nodeChanged,
		DeleteFunc: func(any) { poke(d.told) },
	})
	if err != nil {
		return fmt.Errorf("listening to the node informer: %w", err)
	}
	defer d.parts.Nodes.RemoveEventHandler(reg)
	var all sync.WaitGroup
	all.Go(func() { d.tell(ctx) })
	all.Go(func() { d.tidy(ctx) })
	all.Go(func() { d.keep(ctx) })
	all.Wait()
	return nil
}

// nodeChanged wakes who waits for this node.
func (d *Drivers) nodeChanged(old, now any) {
	n := now.(*corev1.Node)
	if n.Name != d.node {
		return
	}
	d.mu.Lock()
	close(d.moved)
	d.moved = make(chan struct{})
	d.mu.Unlock()
	if o, had := old.(*corev1.Node); !had || o.UID != n.UID || o.Annotations[nodeIDs] != n.Annotations[nodeIDs] {
		poke(d.told)
	}
}

// self is this node as the API has it, nil while it is not known, and what is closed when it has changed.
func (d *Drivers) self() (*corev1.Node, <-chan struct{}) {
	d.mu.Lock()
	moved := d.moved
	d.mu.Unlock()
	o, there, err := d.parts.Nodes.GetStore().GetByKey(d.node)
	if err != nil || !there {
		return nil, moved
	}
	return o.(*corev1.Node), moved
}

// object is what its CSIDriver says of a driver, nil if there is none.
func (d *Drivers) object(ctx context.Context, name string) (*storagev1.CSIDriver, error) {
	if inf := d.parts.Objects; !inf.HasSynced() && !cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) {
		return nil, fmt.Errorf("drivers have not been read yet: %w", ctx.Err())
	}
	o, there, err := d.parts.Objects.GetStore().GetByKey(name)
	if err != nil || !there {
		return nil, err
	}
	return o.(*storagev1.CSIDriver), nil
}

// driverOf is a driver that is registered.
func (d *Drivers) driverOf(name string) (driver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	have, there := d.drivers[name]
	if !there {
		return driver{}, fmt.Errorf("driver name %s not found in the list of registered CSI drivers", name)
	}
	return have, nil
}

// poke puts something into a channel that nobody may have read since the last time.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// turns lets one work at a time at each key.
type turns struct {
	mu   sync.Mutex
	held map[string]*turn // guarded by mu
}

type turn struct {
	slot  chan struct{} // has room for one
	users int           // that have it or wait; guarded by turns.mu
}

// take waits until nobody else has the key.
func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	t.mu.Lock()
	mine := t.held[key]
	if mine == nil {
		mine = &turn{slot: make(chan struct{}, 1)}
		t.held[key] = mine
	}
	mine.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.held, key)
		}
	}
	select {
	case mine.slot <- struct{}{}:
		return func() { <-mine.slot; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
