package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"pilothouse.dev/hack/netns"
)

// node is one node: a network namespace with a containerd, a kubelet and a kube-proxy.
type node struct {
	Name  string `json:"name"`
	Index int    `json:"index"`           // from 1; its address and its link's name come from it
	Fault fault  `json:"fault,omitempty"` // what was done to it and must be undone before it is well
	// Addresses, where they are not those of its number: somebody gave it others.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// fault is what a command did to a node.
type fault string

const (
	well        fault = ""
	stopped     fault = "stopped"
	killed      fault = "killed"
	paused      fault = "paused"
	partitioned fault = "partitioned"
)

// maxNodes is how many addresses and pod ranges there are.
const maxNodes = 200

func (c *cluster) node(name string) (*node, error) {
	for _, n := range c.state.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no node %q in cluster %q: it has %s", name, c.name, names(c.state.Nodes))
}

// addNode notes one more node, with the first free number.
func (c *cluster) addNode() (*node, error) {
	for i := 1; i <= maxNodes; i++ {
		if !slices.ContainsFunc(c.state.Nodes, func(n *node) bool { return n.Index == i || overlap(c.nodeIPs(n), c.addr().node(i)) }) {
			n := &node{Name: "node" + strconv.Itoa(i), Index: i}
			c.state.Nodes = append(c.state.Nodes, n)
			return n, c.save()
		}
	}
	return nil, fmt.Errorf("a cluster has at most %d nodes", maxNodes)
}

func overlap(a, b []netip.Addr) bool {
	return slices.ContainsFunc(a, func(ip netip.Addr) bool { return slices.Contains(b, ip) })
}

// nodeIPs are a node's addresses, one a family, and nodeIP the first.
func (c *cluster) nodeIPs(n *node) []netip.Addr {
	if len(n.Addresses) > 0 {
		return n.Addresses
	}
	return c.addr().node(n.Index)
}
func (c *cluster) nodeIP(n *node) netip.Addr { return c.nodeIPs(n)[0] }
func (c *cluster) nodeRun(n *node, e ...string) string {
	return filepath.Join(append([]string{c.run(), n.Name}, e...)...)
}
func (c *cluster) nodeNetns(n *node) string  { return c.nodeRun(n, "netns") }
func (c *cluster) nodeCgroup(n *node) string { return c.cgroup() + "/" + n.Name }
func (c *cluster) nodeLink(n *node) string   { return c.linkPrefix() + "n" + strconv.Itoa(n.Index) }

// raiseNode makes the node's namespace and joins it to the bridge. Repeating it mends what is missing.
func (c *cluster) raiseNode(n *node) error {
	if err := netns.Create(c.nodeNetns(n)); err != nil {
		return err
	}
	if err := c.joinBridge(n); err != nil {
		return fmt.Errorf("joining %s to the bridge: %w", n.Name, err)
	}
	if err := netns.Do(c.nodeNetns(n), func() error { return c.furnish(n) }); err != nil {
		return fmt.Errorf("setting up the network of %s: %w", n.Name, err)
	}
	return nil
}

func (c *cluster) joinBridge(n *node) error {
	bridge, err := c.ensureBridge()
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(c.nodeLink(n))
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		ns, err := unix.Open(c.nodeNetns(n), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening namespace: %w", err)
		}
		defer unix.Close(ns)
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Alias = c.nodeLink(n), "pilothouse cluster "+c.name+" "+n.Name
		err = netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns),
			PeerHardwareAddr: c.addr().hardware(10 + n.Index),
		})
		if err != nil {
			return fmt.Errorf("making link: %w", err)
		}
		if link, err = netlink.LinkByName(c.nodeLink(n)); err != nil {
			return fmt.Errorf("finding the link just made: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("looking for the link: %w", err)
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("adding link to the bridge: %w", err)
	}
	if n.Fault == partitioned {
		return nil
	}
	return netlink.LinkSetUp(link)
}

// furnish gives the node its addresses and routes; it runs inside the node's namespace.
func (c *cluster) furnish(n *node) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding lo: %w", err)
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("finding eth0: %w", err)
	}
	if c.addr().has(true) {
		if err := setIPv6(nodeIPv6); err != nil {
			return err
		}
	}
	for _, l := range []netlink.Link{lo, eth0} {
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("raising %s: %w", l.Attrs().Name, err)
		}
	}
	// First: of an address beside an older one of its range there would be nothing left when the older goes.
	if err := c.dropAddresses(n, eth0); err != nil {
		return err
	}
	if err := c.addAddresses(eth0, c.nodeIPs(n)); err != nil {
		return err
	}
	if err := os.WriteFile(forwardFile, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("setting ip_forward: %w", err)
	}
	for _, r := range c.nodeRoutes(n, eth0.Attrs().Index) {
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("adding route %s: %w", r, err)
		}
	}
	return nil
}

func (c *cluster) nodeRoutes(n *node, eth0 int) (routes []*netlink.Route) {
	a := c.addr()
	for i, ip := range c.nodeIPs(n) {
		routes = append(routes,
			// The kernel looks for a route before a packet of the node's own meets kube-proxy's rules: without this one, a machine
			// without a default route could not call a service. What no rule catches dies on the bridge, unanswered.
			&netlink.Route{Dst: ipnet(a.services()[i]), LinkIndex: eth0, Src: ip.AsSlice()},
			// Pods that nobody has must not be looked for elsewhere.
			&netlink.Route{Dst: ipnet(a.pods()[i]), Type: unix.RTN_BLACKHOLE, Priority: blackholeMetric})
		if c.state.Uplink && ip.Is4() {
			routes = append(routes, &netlink.Route{Gw: a.bridges()[i].AsSlice(), LinkIndex: eth0})
		}
	}
	return routes
}

// dropAddresses takes from the node those of its cluster's addresses that it has no more.
func (c *cluster) dropAddresses(n *node, eth0 netlink.Link) error {
	have, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(eth0, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	for _, addr := range have {
		ip, _ := netip.AddrFromSlice(addr.IP)
		ip = ip.Unmap()
		ours := slices.ContainsFunc(c.addr().nodes(), func(p netip.Prefix) bool { return p.Contains(ip) })
		if !ours || slices.Contains(c.nodeIPs(n), ip) {
			continue
		}
		if err := netlink.AddrDel(eth0, &addr); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("removing %s: %w", ip, err)
		}
	}
	return nil
}

// setLink raises or lowers the node's cable.
func (c *cluster) setLink(n *node, up bool) error {
	link, err := netlink.LinkByName(c.nodeLink(n))
	if err != nil {
		return fmt.Errorf("finding the link of %s: %w", n.Name, err)
	}
	set := netlink.LinkSetDown
	if up {
		set = netlink.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("switching the link of %s: %w", n.Name, err)
	}
	return nil
}

// removeLink removes the node's cable; that it is gone already is no error.
func (c *cluster) removeLink(n *node) error {
	link, err := netlink.LinkByName(c.nodeLink(n))
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding the link of %s: %w", n.Name, err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing the link of %s: %w", n.Name, err)
	}
	return nil
}

func names(nodes []*node) string {
	if len(nodes) == 0 {
		return "none"
	}
	s := nodes[0].Name
	for _, n := range nodes[1:] {
		s += ", " + n.Name
	}
	return s
}
