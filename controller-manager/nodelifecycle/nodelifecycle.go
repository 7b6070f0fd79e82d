// Package nodelifecycle watches whether nodes live. A node's sign of life is the renewal of its Lease; one that is silent for as
// long as its Lease says becomes Unknown, its pods not ready (so that no Service sends there any more), and gets taints, by which
// new pods keep away and tainteviction ends the old ones. It also turns what nodes report of themselves into taints.
//
// What always holds: silence is measured by our own clock, from when we saw a renewal, so clocks need not agree; silence while
// the API server could not be asked is not counted; and when all or most nodes are silent at once, the fault is taken to be
// ours or the network's: nothing is evicted then.
//
//	reports Ready ──► no taint                       ▲ kubelet renews and reports again
//	reports not ready ──► not-ready                  │
//	silent for half the grace ──► asked for live ──► silent for all of it ──► Unknown, pods not ready, unreachable
package nodelifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/pod"
)

// Config is filled from flags.
type Config struct {
	Grace   time.Duration // how long a node may be silent; 0: as long as its Lease says
	Startup time.Duration // how long one may take that has never reported
	Rates   Rates
}

type controller struct {
	t      loop.Tools
	cfg    Config
	nodes  corelisters.NodeLister
	leases coordinationlisters.LeaseNamespaceLister
	pods   podset.Reader
	signs  *signs
	limits *limits
	zones  counted
	store  cache.Store // of nodes
}

// New returns the constructor for a configuration.
func New(cfg Config) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		c := &controller{
			t: t, cfg: cfg, signs: newSigns(), limits: newLimits(),
			nodes:  t.Informers.Core().V1().Nodes().Lister(),
			store:  t.Informers.Core().V1().Nodes().Informer().GetStore(),
			leases: t.Informers.Coordination().V1().Leases().Lister().Leases(corev1.NamespaceNodeLease),
			pods:   podset.NewReader(t.Informers),
		}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "nodes", Wakes: loop.Self},
				{Resource: "leases.coordination.k8s.io", Wakes: loop.Func("the node of that name", leaseholder)},
			},
			Reads:     []string{"pods"},
			Reconcile: c.reconcile,
		}
	}
}

func leaseholder(e loop.Event) []loop.Key {
	if l := e.Last(); l.GetNamespace() == corev1.NamespaceNodeLease {
		return []loop.Key{{Name: l.GetName()}}
	}
	return nil
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	node, err := c.nodes.Get(key.Name)
	if apierrors.IsNotFound(err) {
		if uid := c.signs.forget(key.Name); uid != "" {
			gone := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: key.Name, UID: uid}
			c.t.Recorder.Eventf(gone, corev1.EventTypeNormal, "RemovingNode", "Node %s event: Removing Node %s from Controller", key.Name, key.Name)
		}
		return 0, nil
	}
	if err != nil || node.DeletionTimestamp != nil {
		return 0, err
	}
	lease, err := c.leases.Get(key.Name)
	if apierrors.IsNotFound(err) {
		lease = nil
	} else if err != nil {
		return 0, err
	}
	now := time.Now()
	if !c.signs.knows(node) && justRegistered(node, now) {
		c.t.Recorder.Eventf(node, corev1.EventTypeNormal, "RegisteredNode", "Node %s event: Registered Node %s in Controller", node.Name, node.Name)
	}
	grace := c.cfg.grace(node, lease)
	left := c.signs.look(node, lease, grace, now)
	if left <= grace/2 && !c.signs.silent(node.Name) { // suspicious: the cache may be behind, or the API server be away
		lease, err = c.ask(ctx, node)
		asked := now
		now = time.Now()
		if err != nil || now.Sub(asked) > grace/4 { // it is away, or just coming back: kubelets have no better luck
			c.signs.blind(now)
		}
		if err != nil {
			c.t.Log.Debug("cannot ask for a node's lease", zap.String("node", node.Name), zap.Error(err))
			return grace / 4, nil
		}
		left = c.signs.look(node, lease, grace, now)
	}
	again := left
	if left > grace/2 {
		again = left - grace/2
	} else if left > 0 {
		again = min(left, grace/4)
	}
	silent := left <= 0
	c.signs.decide(node.Name, silent)
	if silent {
		again = time.Second // an outage may begin or end with other nodes
		if left < -10*time.Second {
			again = 5 * time.Second
		}
	}
	wait, err := c.apply(ctx, node, silent, now)
	if wait > 0 && (again == 0 || wait < again) {
		again = wait
	}
	return again, err
}

// spare says whether a node that is silent, or says itself that it is not ready, must keep its pods: because too much of the
// cluster is like that, or others of its zone were evicted just now; then look again after wait.
func (c *controller) spare(node *corev1.Node, now time.Time) (spare bool, wait time.Duration, err error) {
	zones, err := c.census()
	if err != nil {
		return false, 0, err
	}
	zone := zoneOf(node)
	rate := zones.rate(zone, c.cfg.Rates)
	if rate <= 0 {
		return true, time.Second, nil
	}
	if hasNoExecute(node) { // already
		return false, 0, nil
	}
	if wait = c.limits.take(zone, rate, now); wait > 0 {
		return true, wait, nil
	}
	c.t.Metrics.Counter("node_collector_evictions_total", "Nodes whose pods were given up, by zone.", "zone").WithLabelValues(zone).Inc()
	return false, 0, nil
}

// census is how the zones are now.
func (c *controller) census() (census, error) {
	of := fmt.Sprintf("%s %d", c.store.LastStoreSyncResourceVersion(), c.signs.turns()) // before counting: what is counted is at least that new
	zones, former, err := c.zones.take(of, func() (census, error) {
		all, err := c.nodes.List(labels.Everything())
		return take(all, c.signs.silent), err
	})
	if err != nil {
		return nil, err
	}
	if !maps.EqualFunc(zones, former, func(a, b *zone) bool { return *a == *b }) {
		c.measure(zones, former)
	}
	return zones, nil
}

// measure shows how the zones are.
func (c *controller) measure(zones, former census) {
	size := c.t.Metrics.Gauge("node_collector_zone_size", "Registered nodes of a zone.", "zone")
	bad := c.t.Metrics.Gauge("node_collector_unhealthy_nodes_in_zone", "Nodes of a zone that are not ready.", "zone")
	health := c.t.Metrics.Gauge("node_collector_zone_health", "Ready nodes of a zone, in percent.", "zone")
	for name := range former {
		if zones[name] == nil {
			size.DeleteLabelValues(name)
			bad.DeleteLabelValues(name)
			health.DeleteLabelValues(name)
		}
	}
	for name, z := range zones {
		size.WithLabelValues(name).Set(float64(z.size))
		bad.WithLabelValues(name).Set(float64(z.bad))
		health.WithLabelValues(name).Set(100 * float64(z.size-z.bad) / float64(z.size))
	}
}

// ask reads a node's Lease live; nil when it has none.
func (c *controller) ask(ctx context.Context, node *corev1.Node) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	lease, err := c.t.Clients.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return lease, err
}

// apply writes the node's conditions, then its pods', then its taints: traffic is led away before pods are ended.
// It returns after how long the taints may change.
func (c *controller) apply(ctx context.Context, node *corev1.Node, silent bool, now time.Time) (time.Duration, error) {
	nodes := c.t.Clients.Kube.CoreV1().Nodes()
	want := node.DeepCopy()
	if silent {
		unknown(&want.Status, now)
	}
	is := readiness(want)
	was := c.signs.ready(node.Name, is)
	if was == corev1.ConditionTrue && is != corev1.ConditionTrue {
		c.t.Log.Info("node is not ready", zap.String("node", node.Name), zap.Bool("silent", silent))
		c.t.Recorder.Eventf(node, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
	}
	got, err := loop.Commit(ctx, nodes, node, want)
	if err != nil {
		c.signs.ready(node.Name, was)
		return 0, err
	}
	var left error // pods that could not be told of do not keep the others on the node
	if silent || was == corev1.ConditionTrue && is == corev1.ConditionFalse {
		if left = c.unreadyPods(ctx, node.Name, now); left != nil && !silent {
			c.signs.ready(node.Name, was) // so that it is tried again
		}
	}
	var spare bool
	var wait time.Duration
	if is != "" && is != corev1.ConditionTrue {
		if spare, wait, err = c.spare(got, now); err != nil {
			return 0, err
		}
	} else if was != is {
		if _, err = c.census(); err != nil {
			return 0, err
		}
	}
	want = got.DeepCopy()
	want.Spec.Taints = taints(got, spare, now)
	_, err = loop.Commit(ctx, nodes, got, want)
	return wait, errors.Join(left, err)
}

// unreadyPods says of all pods on a node that they are not ready; their kubelet takes it back if it lives.
func (c *controller) unreadyPods(ctx context.Context, node string, now time.Time) error {
	pods, err := c.pods.On(node)
	if err != nil {
		return err
	}
	var ready []*corev1.Pod
	for _, p := range pods {
		if pod.Ready(p) && !pod.Terminal(p) {
			ready = append(ready, p)
		}
	}
	_, err = podset.Together(len(ready), func(i int) error {
		want := ready[i].DeepCopy()
		pod.SetCondition(&want.Status, corev1.PodCondition{
			Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "NodeNotReady", Message: "the node does not answer",
		}, now)
		_, err := loop.Commit(ctx, c.t.Clients.Kube.CoreV1().Pods(want.Namespace), ready[i], want)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("marking pod %s/%s not ready: %w", want.Namespace, want.Name, err)
		}
		c.t.Recorder.Event(ready[i], corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
		return nil
	})
	return err
}
