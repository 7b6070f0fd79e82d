package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/moby/locker"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

var (
	// ErrNoPodCIDR: the node has no pod range yet; the pod waits (NetworkNotReady).
	ErrNoPodCIDR = errors.New("node has no pod range yet: the controller manager gives it one (--allocate-node-cidrs, --cluster-cidr), or a CNI configuration may be installed")
	// ErrExhausted: every address of the node's range is taken.
	ErrExhausted = errors.New("no free address in the node's pod range")
)

// Config of the pod network.
type Config struct {
	// MTU of pods; 0 means what the node's uplink carries, less what a tunnel to other nodes takes if there is one.
	MTU int
	// NodeIPs are the node's addresses, at most one a family: other nodes reach it there, and it speaks to pods under them. May be empty.
	NodeIPs []netip.Addr
	// NodeIP is the first of them: plugins' answers are put in the order of its family.
	NodeIP netip.Addr
	// CNIConfDir is where somebody may install a CNI configuration (*.conflist; the first by name counts). While one is there, pods are joined by its
	// plugins, found in CNIBinDirs, and not from here; what libcni must remember is kept in CNICacheDir. Empty: never.
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
	HostIP        netip.Addr // invalid: all addresses of the node, of both families; unspecified: of its own
	Protocol      corev1.Protocol
	Port          uint16 // on the node
	ContainerPort uint16
}

// Bandwidth bounds a pod's traffic, in bits a second; 0: no bound. Ingress is what the pod receives.
type Bandwidth struct{ Ingress, Egress uint64 }

// Attachment is a pod's place in the network.
type Attachment struct {
	// IPs and gateways: at most one a family, in the order of the cluster's families; never empty. The prefix is the one that the pod's own link has
	// (of a single address, if no plugin says otherwise). A gateway may be invalid.
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

// Held is an address that a pod has from before, in the network namespace at that path.
type Held struct {
	PodKey string
	IP     netip.Addr
	NetNS  string
}

// Network is the pod network of this node. All methods may be called at the same time.
type Network struct {
	cfg Config
	log *zap.Logger

	cni  *plugins       // nil without a folder to look in
	pods *locker.Locker // by pod key: one pod is set up or torn down at a time; taken before mu

	addLink func(netlink.Link) error // for tests of kernels that lack a kind
	living  living                   // whom Restore was told of

	mu       sync.Mutex // guards what follows, and serializes work on routes and the tunnel
	families []bool     // those in use, in the cluster's order; true is IPv4
	pools    map[bool]*pool
	joined   map[string]*member  // pods whose link was made, by key
	from     map[bool]netip.Addr // the node's addresses for packets of its own, by family
	lent     map[bool]netip.Addr // those of them that are from the pods' range
	mtu      int
	ipv6     bool // links have IPv6
	tunnel   bool // other nodes are behind a router
	failed   error
	restored bool // what ran before is known, so what is not known is nobody's
	swept    bool
	bridge   bool // that of an earlier version is still there
}

// member is a pod that was joined; what is not known of one from before a restart is empty.
type member struct {
	pod Pod
	ips []netip.Addr
}

// New stores what it is given.
func New(cfg Config, log *zap.Logger) *Network {
	return &Network{
		cfg: cfg, log: log.Named("network"), cni: newPlugins(cfg, log.Named("network")), pods: locker.New(), addLink: netlink.LinkAdd,
		pools: map[bool]*pool{true: newPool(), false: newPool()}, joined: map[string]*member{}, from: map[bool]netip.Addr{},
	}
}

// Restore marks addresses as taken: after a restart, before the first Setup, from the sandboxes' records. Called again it adds. Only from then on is
// anything removed that nobody is known to need.
func (n *Network) Restore(held []Held) {
	n.keepPorts(held)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range held {
		if !n.pools[h.IP.Is4()].hold(h.PodKey, h.IP) {
			continue
		}
		m := n.joined[h.PodKey]
		if m == nil {
			m = &member{pod: Pod{Key: h.PodKey, NetNS: h.NetNS}}
			n.joined[h.PodKey] = m
		}
		m.ips = append(m.ips, h.IP)
	}
	n.restored = true
}

// SetPodCIDRs begins the node's ranges, one or one of each family in the cluster's order, and lets the kernel forward; where a CNI configuration is
// installed it only does the latter. Running pods keep the addresses that they have from other ranges until they are made anew.
func (n *Network) SetPodCIDRs(ctx context.Context, cidrs []netip.Prefix) (err error) {
	n.cni.setRanges(cidrs)
	defer func() {
		n.mu.Lock()
		n.failed = err
		n.mu.Unlock()
	}()
	families, err := familiesOf(cidrs)
	if err != nil {
		return err
	}
	if err := allowForwarding(slices.Contains(families, true), slices.Contains(families, false)); err != nil {
		return err
	}
	if list, err := n.cni.installed(); err != nil || list != nil {
		return err
	}
	if err := noRedirects(); err != nil {
		n.log.Warn("turning redirects off, without which pods may be told of ways that do not exist", zap.Error(err))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range cidrs {
		n.pools[c.Addr().Is4()].use(c.Masked())
	}
	n.families = families
	if err := n.beginLocked(); err != nil {
		n.families = nil
		return err
	}
	return nil
}

func (n *Network) beginLocked() (err error) {
	if err := n.measureLocked(); err != nil {
		return err
	}
	if n.mtu < leastIPv6MTU && slices.Contains(n.families, false) {
		return fmt.Errorf("pods' links would carry %d bytes, and IPv6 needs %d: raise the MTU of the node's uplink", n.mtu, leastIPv6MTU)
	}
	if n.bridge, err = hasBridge(); err != nil {
		return err
	}
	b := &batch{}
	for _, r := range n.rangesLocked() {
		b.route(r)
	}
	return b.onHost()
}

func familiesOf(cidrs []netip.Prefix) (families []bool, err error) {
	for _, c := range cidrs {
		v4 := c.Addr().Is4()
		switch {
		case !c.IsValid() || c.Bits() > c.Addr().BitLen()-2:
			return nil, fmt.Errorf("pod range %s has no room for a pod: IPv4 ranges up to /30 and IPv6 ranges up to /126 are supported", c)
		case slices.Contains(families, v4):
			return nil, fmt.Errorf("pod ranges %v: one range or one of each family is supported", cidrs)
		}
		families = append(families, v4)
	}
	if len(families) == 0 {
		return nil, ErrNoPodCIDR
	}
	return families, nil
}

// Ready is nil once pods can be connected, else the reason (for the node's Ready condition).
func (n *Network) Ready() error {
	if here, err := n.cni.ready(); here || err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case len(n.families) > 0:
		return nil
	case n.failed != nil:
		return n.failed
	}
	return ErrNoPodCIDR
}

// Setup connects the pod's namespace: a veth eth0 with an address a family and default routes. A second Setup with the same key and namespace gives the
// same Attachment, and mends what is missing. On error nothing remains.
func (n *Network) Setup(ctx context.Context, pod Pod) (_ Attachment, err error) {
	defer n.lockPod(pod.Key)()
	list, err := n.cni.installed()
	if err != nil {
		return Attachment{}, err
	}
	if list != nil {
		return n.joinByPlugins(ctx, list, pod)
	}
	n.mu.Lock()
	ips, fresh, err := n.takeLocked(pod.Key)
	w := n.wiringLocked(pod, ips)
	n.mu.Unlock()
	if err != nil {
		return Attachment{}, err
	}
	defer func() {
		if err == nil || len(fresh) == 0 {
			return
		}
		if len(fresh) == len(ips) {
			err = errors.Join(err, removeLinks(hostLink(pod.Key), shaperLink(pod.Key)))
		}
		n.mu.Lock()
		for _, v4 := range fresh {
			n.pools[v4].free(pod.Key)
		}
		n.mu.Unlock()
	}()
	if err := join(w, pod); err != nil {
		return Attachment{}, fmt.Errorf("connecting pod %s: %w", pod.Key, err)
	}
	a := w.attachment()
	if err := n.openPorts(pod, a); err != nil {
		return Attachment{}, err
	}
	n.mu.Lock()
	n.joined[pod.Key] = &member{pod: pod, ips: ips}
	n.mu.Unlock()
	return a, nil
}

func (w wiring) attachment() Attachment {
	a := Attachment{HostLink: w.name}
	for _, ip := range w.ips {
		a.IPs, a.Gateways = append(a.IPs, netip.PrefixFrom(ip, ip.BitLen())), append(a.Gateways, gatewayOf(ip))
	}
	return a
}

// join makes the link and bounds it.
func join(w wiring, pod Pod) error {
	link, err := connect(pod.NetNS, w)
	if err != nil || pod.Bandwidth == (Bandwidth{}) {
		return err
	}
	return bound(link, w, pod)
}

// takeLocked gives the pod an address of each family in use, and says of which it had none before.
func (n *Network) takeLocked(key string) (ips []netip.Addr, fresh []bool, err error) {
	if len(n.families) == 0 {
		return nil, nil, ErrNoPodCIDR
	}
	for _, v4 := range n.families {
		ip, isFresh, err := n.pools[v4].take(key)
		if err != nil {
			for _, v4 := range fresh {
				n.pools[v4].free(key)
			}
			return nil, nil, err
		}
		if ips = append(ips, ip); isFresh {
			fresh = append(fresh, v4)
		}
	}
	return ips, fresh, nil
}

func (n *Network) wiringLocked(pod Pod, ips []netip.Addr) wiring {
	w := wiring{name: hostLink(pod.Key), ips: ips, from: map[bool]netip.Addr{true: n.from[true], false: n.from[false]}, mtu: n.mtu, ipv6: n.ipv6, addLink: n.addLink}
	if pod.Name != "" {
		w.alias = pod.Namespace + "/" + pod.Name
		w.alias = w.alias[:min(len(w.alias), 255)] // the kernel's bound
	}
	return w
}

// Teardown removes the pod's link and frees its addresses. Tearing down what is gone is no error.
func (n *Network) Teardown(ctx context.Context, netns, podKey string) error {
	defer n.lockPod(podKey)()
	if err := n.closePorts(podKey); err != nil {
		return err
	}
	if err := n.cni.remove(ctx, netns, podKey); err != nil {
		return fmt.Errorf("disconnecting pod %s: %w", podKey, err)
	}
	n.mu.Lock()
	delete(n.joined, podKey)
	n.mu.Unlock()
	// Deleting one end of a veth deletes both, and all routes over it, so the namespace itself needs not be entered, and may be gone.
	if err := removeLinks(hostLink(podKey), shaperLink(podKey)); err != nil {
		return fmt.Errorf("disconnecting pod %s: %w", podKey, err)
	}
	n.mu.Lock()
	for _, p := range n.pools {
		p.free(podKey)
	}
	n.mu.Unlock()
	return nil
}

// lockPod keeps two calls for one pod apart.
func (n *Network) lockPod(key string) (unlock func()) {
	n.pods.Lock(key)
	return func() { _ = n.pods.Unlock(key) } // fails only for a name that is not locked
}

// Remove takes pods' links, the tunnel and the routes away: for a node that leaves for good.
func (n *Network) Remove(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.families, n.joined, n.pools = nil, map[string]*member{}, map[bool]*pool{true: newPool(), false: newPool()}
	n.restored, n.swept = true, false
	_, err := n.setRoutesLocked(nil)
	return errors.Join(err, n.sweepLocked())
}
