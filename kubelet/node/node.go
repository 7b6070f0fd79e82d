// Package node answers for this machine before the API: it registers the Node, renews its Lease, writes capacity, conditions and facts, and
// gives the network the pod ranges of this node and the others.
//
// main runs it. What always holds: Ready is true only when the runtime answers and pods can be connected, otherwise it says what is missing; the
// status is written when it changes, and at least every five minutes; the Lease is renewed on its own, so that slow reports never make a node look dead.
//
// It leaves to others: what pressure means for pods (eviction), which judges it; whether the node is believed (the control plane).
package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/network"
)

// Config of the node.
type Config struct {
	Name string
	IPs  []netip.Addr
	// Labels beside those that every node has, and Taints to register with.
	Labels map[string]string
	Taints []corev1.Taint
	// Root is the kubelet's folder: its disk is the node's storage.
	Root    string
	MaxPods int
	// MaxImages is how many images the status has, the largest ones; 0 means 50, below 0 all.
	MaxImages int
	// Port of the kubelet's server.
	Port int
	// LeaseInterval is how often the Lease is renewed; it lasts four times as long.
	LeaseInterval time.Duration
	// Reserve is kept for the node's own daemons. ReservedMemory, in bytes, and ReservedStorage, of all storage (nil: none), are what the hard
	// thresholds of eviction keep from pods.
	Reserve         Reserve
	ReservedMemory  int64
	ReservedStorage func(all uint64) int64
	// HugePages says how many of each size, in bytes, are set aside; nil: none are told of.
	HugePages func() map[int64]int64
}

// Runtime is what the node asks of the container runtime.
type Runtime interface {
	Version(ctx context.Context) (string, error)
}

// Images lists what is on the node.
type Images interface {
	List(ctx context.Context) ([]images.Image, error)
}

// Network connects pods.
type Network interface {
	SetPodCIDRs(ctx context.Context, cidrs []netip.Prefix) error
	SetRoutes(ctx context.Context, peers []network.Peer) error
	Ready() error
}

// Pressure says which resources are short, each with a sentence.
type Pressure interface {
	Pressure() (memory, disk, pids bool)
}

// Parts are the rooms and clients the node needs.
type Parts struct {
	Kube kubernetes.Interface
	// Nodes is the informer of all nodes, run by its factory.
	Nodes    cache.SharedIndexInformer
	Runtime  Runtime
	Images   Images
	Network  Network
	Pressure Pressure
	// Events may be nil. Enforced says why the limits of all pods together are not in force yet, nil once they are; it may be nil, too.
	Events   Events
	Enforced func() error
	// Contribute is called in order at the end of each look at the machine, on the node's own goroutine, with the Node as it is to be told. Each
	// may change the status (volumes in use, extended resources in capacity and allocatable, runtime handlers …) and nothing else: labels,
	// annotations and spec are shared with the informer. Capacity, allocatable and addresses come to it made anew; other fields as the API has
	// them. It must not block. Whoever has news calls Nudge.
	Contribute []func(*corev1.Node)
}

const (
	refresh  = 10 * time.Second       // how often the machine is looked at
	hurry    = 500 * time.Millisecond // and as long as the node is not ready
	report   = 5 * time.Minute        // the status is written at least so often
	patience = 10 * time.Second       // of one request
)

// Node is this node.
type Node struct {
	cfg   Config // set once, as all in this group
	parts Parts
	log   *zap.Logger
	wake  chan struct{}

	self atomic.Pointer[corev1.Node] // what is known of it

	// The rest is owned by Run's loop.
	registered bool
	reported   time.Time // the last write of the status
	images     []corev1.ContainerImage
	listed     time.Time // when images were listed
	said       map[string]string
	last       map[corev1.NodeConditionType]told // what events were about
	boot       string                            // as the last event said
	enforced   string
}

// New stores what it is given.
func New(cfg Config, parts Parts, log *zap.Logger) *Node {
	return &Node{cfg: cfg, parts: parts, log: log.Named("node"), wake: make(chan struct{}, 1), said: map[string]string{}, last: map[corev1.NodeConditionType]told{}}
}

// Self is this node as far as it is known; nil until Run has looked at the machine for the first time.
func (n *Node) Self() *corev1.Node { return n.self.Load() }

// Run works until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	reg, err := n.parts.Nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    n.seen,
		UpdateFunc: func(old, now any) { n.changed(old, now) },
		DeleteFunc: n.seen,
	})
	if err != nil {
		return fmt.Errorf("listening to the node informer: %w", err)
	}
	defer n.parts.Nodes.RemoveEventHandler(reg)
	roads := newConnector(n.cfg.Name, n.parts.Nodes, n.parts.Network, n.log)
	roads.ready, roads.failed = n.nudge, func(err error) { n.event(corev1.EventTypeWarning, "FailedToCreateRoute", "%v", err) }
	stop, err := roads.listen()
	if err != nil {
		return err
	}
	defer stop()
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { n.heartbeat(ctx) })
	loops.Go(func() { roads.run(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		case <-timer.C:
		}
		timer.Reset(n.turn(ctx))
	}
}

// Nudge has the machine looked at soon: a contributor has news. It never blocks and may be called from anywhere, before Run too.
func (n *Node) Nudge() { n.nudge() }

func (n *Node) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// seen wakes the loop for this node itself.
func (n *Node) seen(obj any) {
	if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil && key == n.cfg.Name {
		n.nudge()
	}
}

// changed wakes it for what it needs of the node: its spec and addresses, and labels and capacity.
func (n *Node) changed(old, now any) {
	a, b := old.(*corev1.Node), now.(*corev1.Node)
	if b.Name == n.cfg.Name && (!equality.Semantic.DeepEqual(a.Spec, b.Spec) || !equality.Semantic.DeepEqual(a.Status.Addresses, b.Status.Addresses) ||
		!maps.Equal(a.Labels, b.Labels) || !equality.Semantic.DeepEqual(a.Status.Capacity, b.Status.Capacity)) {
		n.nudge()
	}
}

// turn does all that is due and says when to come again.
func (n *Node) turn(ctx context.Context) time.Duration {
	if !n.registered {
		want := n.wish(ctx)
		n.self.Store(want)
		if err := n.register(ctx, want); err != nil {
			n.say(ctx, "registering the node", err)
			return hurry
		}
		n.say(ctx, "registering the node", nil)
		n.registered = true
		n.event(corev1.EventTypeNormal, "Starting", "Starting kubelet.") // not before: events are not delivered from the very start
	}
	have := n.api()
	if have == nil {
		return hurry // registered, but the informer does not show it yet
	}
	want := n.wish(ctx)
	n.self.Store(want)
	if err := n.write(ctx, have, want); err != nil {
		n.say(ctx, "writing the node's status", err)
		return hurry
	}
	n.say(ctx, "writing the node's status", nil)
	n.tellEnforced()
	if !isReady(want) {
		return hurry
	}
	return refresh
}

// say logs an error once, as long as it stays the same.
func (n *Node) say(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		once(n.log, n.said, what, err)
	}
}

// once logs an error unless it is what was said last of the same matter, and says whether it did.
func once(log *zap.Logger, said map[string]string, what string, err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if said[what] == text {
		return false
	}
	if said[what] = text; err != nil {
		log.Warn(what, zap.Error(err))
	} else {
		log.Info(what + ": well")
	}
	return true
}

// api is this node as the API has it, nil if it is not there.
func (n *Node) api() *corev1.Node {
	obj, ok, err := n.parts.Nodes.GetStore().GetByKey(n.cfg.Name)
	if err != nil || !ok {
		return nil
	}
	return obj.(*corev1.Node)
}

// register makes the Node object, or brings the labels of one that is there up to date.
func (n *Node) register(ctx context.Context, want *corev1.Node) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	nodes := n.parts.Kube.CoreV1().Nodes()
	fresh := want.DeepCopy()
	fresh.Status.Conditions = beat(nil, want.Status.Conditions, metav1.Now())
	_, err := nodes.Create(ctx, fresh, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		if err == nil {
			n.log.Info("registered", zap.String("node", n.cfg.Name))
			n.tell(&corev1.NodeStatus{}, &fresh.Status)
		}
		return err
	}
	have, err := nodes.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	lacks := map[string]string{}
	for k, v := range want.Labels {
		if have.Labels[k] != v {
			lacks[k] = v
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": lacks}})
	if err != nil {
		return fmt.Errorf("encoding labels: %w", err)
	}
	_, err = nodes.Patch(ctx, n.cfg.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// write brings the status to the API when it differs, or when it is time to say that it doesn't.
func (n *Node) write(ctx context.Context, have, want *corev1.Node) error {
	every := report
	if !isReady(want) {
		every = refresh
	}
	next := have.DeepCopy()
	next.Status = want.Status
	next.Status.Conditions = beat(have.Status.Conditions, want.Status.Conditions, metav1.Now())
	if same(&have.Status, &next.Status) && time.Since(n.reported) < every {
		return nil
	}
	patch, err := difference(have, next)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := n.parts.Kube.CoreV1().Nodes().Patch(ctx, n.cfg.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	n.reported = time.Now()
	n.tell(&have.Status, &next.Status)
	return nil
}
