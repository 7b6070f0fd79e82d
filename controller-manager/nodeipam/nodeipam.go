// Package nodeipam gives every node its part of the cluster's pod range, as spec.podCIDR and podCIDRs. What is taken is read
// from the nodes themselves each time, so a restart forgets nothing and a deleted node's part is free at once.
//
// What always holds: no two nodes get overlapping parts. One worker decides, and what it gave but the cache does not show yet
// counts as taken; that is why the table gives it one worker only.
package nodeipam

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
)

// Config is filled from flags.
type Config struct {
	Cluster  []netip.Prefix // one a family; nodes have their parts in this order
	Services []netip.Prefix // never given away
	// Size is the prefix length of a node's part where the cluster has one family, Size4 and Size6 are those of the families; 0: 24 and 64.
	Size, Size4, Size6 int

	bits map[bool]int // by whether it is IPv6: set by Complete
}

// notAvailable is the reason of the event of a node that gets no part.
const notAvailable = "CIDRNotAvailable"

type controller struct {
	t     loop.Tools
	cfg   Config
	nodes corelisters.NodeLister
	given map[types.UID][]netip.Prefix // owned by the one worker: written, perhaps not in the cache yet
}

// New returns the constructor for a configuration.
func New(cfg Config) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		c := &controller{t: t, cfg: cfg, nodes: t.Informers.Core().V1().Nodes().Lister(), given: map[types.UID][]netip.Prefix{}}
		return loop.Controller{
			Watches:   []loop.Watch{{Resource: "nodes", Wakes: loop.Func("itself, and those that wait for what one has left", c.changed)}},
			Reconcile: c.reconcile,
		}
	}
}

// changed wakes a node, and when one is gone those that found nothing left for them.
func (c *controller) changed(e loop.Event) []loop.Key {
	keys := []loop.Key{loop.KeyOf(e.Last())}
	if e.New != nil {
		return keys
	}
	all, err := c.nodes.List(labels.Everything())
	if err != nil {
		return keys // a cache does not fail
	}
	for _, n := range all {
		if len(n.Spec.PodCIDRs) == 0 {
			keys = append(keys, loop.KeyOf(n))
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	node, err := c.nodes.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || node.DeletionTimestamp != nil || len(node.Spec.PodCIDRs) > 0 {
		return 0, err
	}
	all, err := c.nodes.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	taken := append(c.taken(all, node.UID), c.cfg.Services...)
	parts := c.given[node.UID] // the same again, if a write's answer was lost
	if parts == nil {
		if parts, err = c.pick(taken); err != nil {
			c.t.Recorder.Eventf(node, corev1.EventTypeNormal, notAvailable, "Node %s status is now: %s", node.Name, notAvailable)
			return 0, err
		}
	}
	c.given[node.UID] = parts
	want := node.DeepCopy()
	want.Spec.PodCIDR = parts[0].String()
	for _, p := range parts {
		want.Spec.PodCIDRs = append(want.Spec.PodCIDRs, p.String())
	}
	_, err = loop.Commit(ctx, c.t.Clients.Kube.CoreV1().Nodes(), node, want)
	return 0, err
}

// taken are the parts of all nodes but one, and forgets gifts that the cache shows, or whose node is gone.
func (c *controller) taken(nodes []*corev1.Node, but types.UID) (taken []netip.Prefix) {
	there := make(map[types.UID]bool, len(nodes))
	for _, n := range nodes {
		there[n.UID] = true
		if len(n.Spec.PodCIDRs) > 0 {
			delete(c.given, n.UID)
		}
		for _, s := range n.Spec.PodCIDRs {
			if p, err := netip.ParsePrefix(s); err == nil {
				taken = append(taken, p.Masked())
			}
		}
	}
	for uid, parts := range c.given {
		switch {
		case !there[uid]:
			delete(c.given, uid)
		case uid != but:
			taken = append(taken, parts...)
		}
	}
	return taken
}

func (c *controller) pick(taken []netip.Prefix) (parts []netip.Prefix, err error) {
	for _, whole := range c.cfg.Cluster {
		bits := c.cfg.bits[whole.Addr().Is6()]
		p, ok := free(whole, bits, taken)
		if !ok {
			return nil, fmt.Errorf("no part of %s is left: all of length /%d are taken", whole, bits)
		}
		parts = append(parts, p)
	}
	return parts, nil
}
