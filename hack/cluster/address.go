package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/hack/netns"
	"pilothouse.dev/hack/proc"
)

// moveNode gives a node other addresses, as a machine gets that is plugged in elsewhere: what runs on it goes on, its kubelet is started anew with
// the new ones. A node that was shut down has them when it is started.
func (c *cluster) moveNode(ctx context.Context, n *node, list string) error {
	if n.Fault == paused {
		return fmt.Errorf("%s is paused: let it go on with `cluster node heal %s`", n.Name, n.Name)
	}
	ips, err := c.newAddresses(n, list)
	if err != nil {
		return err
	}
	n.Addresses = ips
	if err := c.save(); err != nil {
		return err
	}
	if n.Fault == stopped || n.Fault == killed {
		c.say("  %-22s has %s when it is started", n.Name, joined(ips))
		return nil
	}
	if id, alive := c.process(n.Name + "/kubelet"); alive {
		if err := proc.End(ctx, 10*time.Second, id); err != nil {
			return fmt.Errorf("stopping %s/kubelet: %w", n.Name, err)
		}
	}
	if err := netns.Do(c.nodeNetns(n), func() error { return c.furnish(n) }); err != nil {
		return fmt.Errorf("setting up the network of %s: %w", n.Name, err)
	}
	if n.Fault != well {
		_, err := c.ensure(c.kubelet(n)) // it is cut off: nobody can see whether it works
		return err
	}
	if err := c.start(ctx, c.kubelet(n)); err != nil {
		return err
	}
	return c.awaitNodes(ctx)
}

// newAddresses reads the addresses that a node is to have; of a family that is not named it keeps its own.
func (c *cluster) newAddresses(n *node, list string) ([]netip.Addr, error) {
	ips := slices.Clone(c.nodeIPs(n))
	named := map[bool]bool{}
	for text := range strings.SplitSeq(list, ",") {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("reading the address: %w", err)
		}
		i := slices.IndexFunc(c.addr().nodes(), func(p netip.Prefix) bool { return p.Contains(ip) && ip != p.Addr() })
		switch {
		case i < 0:
			return nil, fmt.Errorf("%s is none of this cluster's nodes' addresses %s", ip, joined(c.addr().nodes()))
		case named[ip.Is6()]:
			return nil, fmt.Errorf("%s: a node has one address of a family", list)
		case slices.Contains(c.addr().bridges(), ip):
			return nil, fmt.Errorf("%s is the address of this machine", ip)
		case slices.ContainsFunc(c.addr().balancers(), func(p netip.Prefix) bool { return p.Contains(ip) }):
			return nil, fmt.Errorf("%s is one of the load balancers' addresses %s", ip, joined(c.addr().balancers()))
		}
		for _, other := range c.state.Nodes {
			if other != n && slices.Contains(c.nodeIPs(other), ip) {
				return nil, fmt.Errorf("%s is the address of %s", ip, other.Name)
			}
		}
		named[ip.Is6()], ips[i] = true, ip
	}
	return ips, nil
}

// tells says whether the API knows a node's addresses.
func (c *cluster) tells(n *node, have *corev1.Node) bool {
	var ips []netip.Addr
	for _, a := range have.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			ips = append(ips, ip)
		}
	}
	return slices.Equal(ips, c.nodeIPs(n))
}
