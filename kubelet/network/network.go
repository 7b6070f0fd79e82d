package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/moby/locker"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

var (
	// ErrNoPodCIDR: the node has no pod range yet; the pod waits (NetworkNotReady).
	ErrNoPodCIDR = errors.New("node has no pod range yet")
	// ErrExhausted: every address of the node's range is taken.
	ErrExhausted = errors.New("no free address in the node's pod range")
)

const defaultBridge = "pilot0"

// Config of the pod network.
type Config struct {
	// Bridge is its name; empty means pilot0.
	Bridge string
	// MTU of pods; 0 means the MTU of the link with the default route or, without one, of the link of the node's address, else 1500.
	MTU int
	// NodeIP finds the uplink where there is no default route; may be zero.
	NodeIP netip.Addr
	// CNIConfDir is where somebody may install a CNI configuration (*.conflist; the first by name counts). While one is there, pods are joined by its
	// plugins, found in CNIBinDirs, and not by the bridge; what libcni must remember is kept in CNICacheDir. Empty: never.
	CNIConfDir  string
	CNIBinDirs  []string
	CNICacheDir string
	// HostPorts opens the host ports of pods that the built-in driver joins; nil: nobody does.
	HostPorts HostPorts
}

// Pod is what Setup is told of the pod that it joins.
type Pod struct {
	Key             string // the pod's UID; owns the addresses
	Namespace, Name string
	NetNS           string // path of the pinned namespace
	HostPorts       []HostPort
	Bandwidth       Bandwidth
}

// HostPort is a port of the node that leads into a pod.
type HostPort struct {
	HostIP        netip.Addr // invalid or unspecified: all addresses of the node, of both families
	Protocol      corev1.Protocol
	Port          uint16 // on the node
	ContainerPort uint16
}

// Bandwidth bounds a pod's traffic, in bits a second; 0: no bound. Ingress is what the pod receives.
type Bandwidth struct{ Ingress, Egress uint64 }

// Attachment is a pod's place in the network.
type Attachment struct {
	// IPs with the ranges' prefix lengths and the gateways: at most one a family, in the order of the cluster's families; never empty. A gateway may be invalid.
	IPs      []netip.Prefix
	Gateways []netip.Addr
	// HostLink is the veth's name on the node; empty if a CNI plugin made it.
	HostLink string
}

// Addresses are those of IPs.
func (a Attachment) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, p := range a.IPs {
		out = append(out, p.Addr())
	}
	return out
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

	cni  *plugins       // nil without a folder to look in
	pods *locker.Locker // by pod key: one pod is set up or torn down at a time; taken before mu

	living living // whom Restore was told of

	mu   sync.Mutex // guards what follows, and serializes work on bridge and routes
	pool pool
	mtu  int
}

// New stores what it is given.
func New(cfg Config, log *zap.Logger) *Network {
	if cfg.Bridge == "" {
		cfg.Bridge = defaultBridge
	}
	return &Network{cfg: cfg, log: log.Named("network"), cni: newPlugins(cfg), pods: locker.New(), pool: newPool()}
}

// Restore marks addresses as taken: after a restart, before the first Setup, from the sandboxes' records. Called again it adds.
func (n *Network) Restore(held []Held) {
	n.keepPorts(held)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range held {
		n.pool.hold(h.PodKey, h.IP)
	}
}

// SetPodCIDRs makes the bridge with the gateway's address, and lets the kernel forward; where a CNI configuration is installed it only does the latter. The same range again repairs what is missing; another
// range than before moves the bridge, and running pods keep their old addresses until they are made anew.
func (n *Network) SetPodCIDRs(ctx context.Context, cidrs []netip.Prefix) error {
	cidr := cidrs[0].Masked()
	if !cidr.Addr().Is4() || cidr.Bits() > 30 {
		return fmt.Errorf("pod range %s: only IPv4 ranges up to /30 are supported", cidr)
	}
	if err := allowForwarding(); err != nil {
		return err
	}
	if list, err := n.cni.installed(); err != nil || list != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	mtu, err := n.wantedMTU()
	if err != nil {
		return err
	}
	if err := makeBridge(n.cfg.Bridge, netip.PrefixFrom(gateway(cidr), cidr.Bits()), mtu); err != nil {
		return fmt.Errorf("making bridge %s: %w", n.cfg.Bridge, err)
	}
	n.mtu = mtu
	n.pool.use(cidr)
	return nil
}

// Ready is nil once pods can be connected, else the reason (for the node's Ready condition).
func (n *Network) Ready() error {
	if list, err := n.cni.installed(); err != nil || list != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.pool.cidr.IsValid() {
		return ErrNoPodCIDR
	}
	return nil
}

// Setup connects the pod's namespace: a veth eth0 with an address a family and default routes. A second Setup with the same key and namespace gives the
// same Attachment. On error nothing remains.
func (n *Network) Setup(ctx context.Context, pod Pod) (_ Attachment, err error) {
	netns, podKey := pod.NetNS, pod.Key
	defer n.lockPod(podKey)()
	list, err := n.cni.installed()
	if err != nil {
		return Attachment{}, err
	}
	if list != nil {
		return n.cni.add(ctx, list, pod)
	}
	n.mu.Lock()
	mtu := n.mtu
	ip, fresh, err := n.pool.take(podKey)
	cidr := n.pool.cidr
	n.mu.Unlock()
	if err != nil {
		return Attachment{}, err
	}
	a := Attachment{IPs: []netip.Prefix{netip.PrefixFrom(ip, cidr.Bits())}, Gateways: []netip.Addr{gateway(cidr)}, HostLink: hostLink(podKey)}
	defer func() {
		if err == nil || !fresh {
			return
		}
		err = errors.Join(err, removeLink(a.HostLink))
		n.mu.Lock()
		n.pool.free(podKey)
		n.mu.Unlock()
	}()
	if err := connect(n.cfg.Bridge, netns, a, mtu); err != nil {
		return Attachment{}, fmt.Errorf("connecting pod %s: %w", podKey, err)
	}
	if err := n.openPorts(pod, a); err != nil {
		return Attachment{}, err
	}
	return a, nil
}

// Teardown removes the pod's link and frees its address. Tearing down what is gone is no error.
func (n *Network) Teardown(ctx context.Context, netns, podKey string) error {
	defer n.lockPod(podKey)()
	if err := n.closePorts(podKey); err != nil {
		return err
	}
	if err := n.cni.remove(ctx, netns, podKey); err != nil {
		return fmt.Errorf("disconnecting pod %s: %w", podKey, err)
	}
	// Deleting one end of a veth deletes both, so the namespace itself needs not be entered, and may be gone.
	if err := removeLink(hostLink(podKey)); err != nil {
		return fmt.Errorf("disconnecting pod %s: %w", podKey, err)
	}
	n.mu.Lock()
	n.pool.free(podKey)
	n.mu.Unlock()
	return nil
}

// lockPod keeps two calls for one pod apart.
func (n *Network) lockPod(key string) (unlock func()) {
	n.pods.Lock(key)
	return func() { _ = n.pods.Unlock(key) } // fails only for a name that is not locked
}

// Remove takes the bridge and the routes away: for a node that leaves for good.
func (n *Network) Remove(ctx context.Context) error {
	if err := n.SetRoutes(ctx, nil); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pool = newPool()
	return removeLink(n.cfg.Bridge)
}

// wantedMTU follows the uplink, so that no pod sends packets the way to other nodes can't carry.
func (n *Network) wantedMTU() (int, error) {
	if n.cfg.MTU > 0 {
		return n.cfg.MTU, nil
	}
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return 0, fmt.Errorf("listing routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			return mtuOf(r.LinkIndex)
		}
	}
	if !n.cfg.NodeIP.IsValid() {
		return 1500, nil
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return 0, fmt.Errorf("listing addresses: %w", err)
	}
	for _, a := range addrs {
		if a.IP.Equal(n.cfg.NodeIP.AsSlice()) {
			return mtuOf(a.LinkIndex)
		}
	}
	return 1500, nil
}

func mtuOf(index int) (int, error) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return 0, fmt.Errorf("finding uplink: %w", err)
	}
	return link.Attrs().MTU, nil
}
