package network

import (
	"context"
	"errors"
	"net/netip"

	"go.uber.org/zap"
)

var (
	// ErrNoPodCIDR: the node has no pod range yet; the pod waits (NetworkNotReady).
	ErrNoPodCIDR = errors.New("node has no pod range yet")
	// ErrExhausted: every address of the node's range is taken.
	ErrExhausted = errors.New("no free address in the node's pod range")
)

// Config of the pod network.
type Config struct {
	// Bridge is its name; empty means pilot0.
	Bridge string
	// MTU of pods; 0 means the MTU of the link with the default route or, without one, of the link of the node's address, else 1500.
	MTU int
	// NodeIP finds the uplink where there is no default route; may be zero.
	NodeIP netip.Addr
}

// Attachment is a pod's place in the network.
type Attachment struct {
	// IP with the range's prefix length, and the gateway.
	IP      netip.Prefix
	Gateway netip.Addr
	// HostLink is the veth's name on the node.
	HostLink string
}

// Held is an address that a pod has from before.
type Held struct {
	PodKey string
	IP     netip.Addr
}

// Route leads to another node's pods.
type Route struct {
	CIDR netip.Prefix
	Via  netip.Addr
}

// Network is the pod network of this node. All methods may be called at the same time.
type Network struct {
	cfg Config
	log *zap.Logger
}

var errNotBuilt = errors.New("not built yet")

// New stores what it is given.
func New(cfg Config, log *zap.Logger) *Network {
	return &Network{cfg: cfg, log: log.Named("network")}
}

// Restore marks addresses as taken: after a restart, before the first Setup, from the sandboxes' records. Called again it adds.
func (n *Network) Restore(held []Held) {}

// SetPodCIDR makes the bridge with the gateway's address, and lets the kernel forward. The same range again repairs what is missing; another
// range than before moves the bridge, and running pods keep their old addresses until they are made anew.
func (n *Network) SetPodCIDR(ctx context.Context, cidr netip.Prefix) error { return errNotBuilt }

// Ready is nil once pods can be connected, else the reason (for the node's Ready condition).
func (n *Network) Ready() error { return ErrNoPodCIDR }

// Setup connects the namespace pinned at netns: a veth eth0 with an address and a default route. The key (the pod's UID) owns the address; a second
// Setup with the same key and namespace gives the same Attachment. On error nothing remains.
func (n *Network) Setup(ctx context.Context, netns, podKey string) (Attachment, error) {
	return Attachment{}, errNotBuilt
}

// Teardown removes the pod's link and frees its address. Tearing down what is gone is no error.
func (n *Network) Teardown(ctx context.Context, netns, podKey string) error { return errNotBuilt }

// SetRoutes makes the node's routes to other nodes' pods exactly these; only routes made here are ever removed. A route whose gateway
// cannot be reached yet is reported, and the others are set nevertheless.
func (n *Network) SetRoutes(ctx context.Context, want []Route) error { return errNotBuilt }

// Remove takes the bridge and the routes away: for a node that leaves for good.
func (n *Network) Remove(ctx context.Context) error { return errNotBuilt }
