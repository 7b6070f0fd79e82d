package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/kubelet/network"
)

const (
	gather   = 100 * time.Millisecond // news that come so close upon one another are one
	resync   = 10 * time.Second       // how often it is looked whether all is still as it was made
	firstTry = 500 * time.Millisecond // how long after a failure it is tried again; each time twice as long, up to resync
)

// connector gives the network this node's pod ranges, and tells it of the other nodes. It has a loop of its own: however slowly the runtime answers or the
// node's status is written, pods reach a new node at once.
type connector struct {
	name    string // this node's; set once, as all in this group
	nodes   cache.SharedIndexInformer
	network Network
	log     *zap.Logger
	ready   func()      // the network got its ranges
	failed  func(error) // routes to other nodes are missing
	wake    chan struct{}

	// The rest is owned by run.
	ranged []netip.Prefix // the pod ranges that the network has
	said   map[string]string
}

func newConnector(name string, nodes cache.SharedIndexInformer, net Network, log *zap.Logger) *connector {
	return &connector{
		name: name, nodes: nodes, network: net, log: log, ready: func() {}, failed: func(error) {},
		wake: make(chan struct{}, 1), said: map[string]string{},
	}
}

func (c *connector) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// listen has the loop woken by what it needs of nodes.
func (c *connector) listen() (stop func(), err error) {
	reg, err := c.nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { c.nudge() },
		UpdateFunc: func(old, now any) {
			if moved(old.(*corev1.Node), now.(*corev1.Node)) {
				c.nudge()
			}
		},
		DeleteFunc: func(any) { c.nudge() },
	})
	if err != nil {
		return nil, fmt.Errorf("listening to the node informer: %w", err)
	}
	return func() { _ = c.nodes.RemoveEventHandler(reg) }, nil // fails only for one that is not its own
}

// run works until ctx ends.
func (c *connector) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	again := firstTry
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.wake:
		}
		wait := resync
		if c.turn(ctx) {
			again = firstTry
		} else {
			wait, again = again, min(2*again, resync)
		}
		select { // what comes meanwhile is one turn
		case <-ctx.Done():
			return
		case <-time.After(gather):
		}
		timer.Reset(wait)
	}
}

// moved says whether a node is reached in another way than before, or other pods are on it.
func moved(a, b *corev1.Node) bool {
	return !slices.Equal(ranges(a), ranges(b)) || !slices.Equal(a.Status.Addresses, b.Status.Addresses)
}

// turn does all that is due and says whether it went well.
func (c *connector) turn(ctx context.Context) bool {
	obj, there, err := c.nodes.GetStore().GetByKey(c.name)
	if err != nil || !there {
		return true // it wakes us when it comes
	}
	if own := ranges(obj.(*corev1.Node)); len(own) > 0 && (!slices.Equal(own, c.ranged) || c.network.Ready() != nil) {
		err := c.network.SetPodCIDRs(ctx, own)
		c.say(ctx, "making the pod network", err)
		if c.ready(); err != nil {
			return false
		}
		c.ranged = own
	}
	if c.ranged == nil {
		return true
	}
	var nodes []*corev1.Node
	for _, obj := range c.nodes.GetStore().List() {
		nodes = append(nodes, obj.(*corev1.Node))
	}
	err = c.network.SetRoutes(ctx, peers(c.name, nodes))
	if c.say(ctx, "setting routes to pods", err) && err != nil {
		c.failed(err)
	}
	return err == nil
}

// say logs an error once, as long as it stays the same, and says whether it did.
func (c *connector) say(ctx context.Context, what string, err error) bool {
	return ctx.Err() == nil && once(c.log, c.said, what, err)
}

// peers are all nodes but this one, by name.
func peers(own string, nodes []*corev1.Node) []network.Peer {
	out := []network.Peer{}
	for _, node := range nodes {
		p := network.Peer{Name: node.Name, CIDRs: ranges(node)}
		if node.Name == own || len(p.CIDRs) == 0 {
			continue
		}
		for _, a := range node.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); a.Type == corev1.NodeInternalIP && err == nil {
				p.IPs = append(p.IPs, ip.Unmap())
			}
		}
		if len(p.IPs) > 0 { // else its kubelet has not spoken yet
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b network.Peer) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// ranges are those of a node's pods, in the cluster's order.
func ranges(node *corev1.Node) (out []netip.Prefix) {
	list := node.Spec.PodCIDRs
	if len(list) == 0 {
		list = []string{node.Spec.PodCIDR}
	}
	for _, text := range list {
		if cidr, err := netip.ParsePrefix(text); err == nil {
			out = append(out, cidr)
		}
	}
	return out
}
