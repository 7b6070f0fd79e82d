package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/pkg/client"
)

// routeProtocol marks the routes that are ours to remove.
const routeProtocol = 104

// routes is this same program again, keeping this machine's routes to the pods of each node: the API server calls webhooks and
// proxied pods by their own addresses.
func (c *cluster) routes() daemon {
	return daemon{
		name:  "routes",
		path:  c.program("cluster"),
		args:  []string{"-name=" + c.name, "-dir=" + c.dir, "routes"},
		ready: func(context.Context) error { _, err := os.Stat(c.routesReady()); return err },
	}
}

// routesReady exists once the program has set the routes a first time.
func (c *cluster) routesReady() string { return c.path("routes-ready") }

// serveRoutes is what that program does: whenever nodes change, make the routes be what the nodes say.
func (c *cluster) serveRoutes(ctx context.Context) error {
	cfg, err := client.Load(c.adminKubeconfig(), "cluster-routes")
	if err != nil {
		return err
	}
	clients, err := client.New(cfg)
	if err != nil {
		return err
	}
	factory := client.Informers(clients.Kube)
	nodes := factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	note := func(any) {
		select {
		case changed <- struct{}{}:
		default: // one is waiting already
		}
	}
	if _, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: note, UpdateFunc: func(_, n any) { note(n) }, DeleteFunc: note,
	}); err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	factory.WaitForCacheSync(ctx.Done())
	for first := true; ; first = false {
		list, err := nodes.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("listing nodes: %w", err)
		}
		if err := c.setRoutes(wantedRoutes(list)); err != nil {
			return err
		}
		if first {
			if err := os.WriteFile(c.routesReady(), nil, 0o600); err != nil {
				return fmt.Errorf("saying that routes are set: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(30 * time.Second): // a link that went down took its routes along
		}
	}
}

// wantedRoutes is the gateway of each pod range: the node's first address of the same family.
func wantedRoutes(nodes []*corev1.Node) map[netip.Prefix]netip.Addr {
	want := map[netip.Prefix]netip.Addr{}
	for _, n := range nodes {
		for _, text := range n.Spec.PodCIDRs {
			pods, err := netip.ParsePrefix(text)
			if err != nil {
				continue
			}
			for _, a := range n.Status.Addresses {
				ip, err := netip.ParseAddr(a.Address)
				if err == nil && a.Type == corev1.NodeInternalIP && ip.Is4() == pods.Addr().Is4() {
					want[pods] = ip
					break
				}
			}
		}
	}
	return want
}

// setRoutes makes the routes through the bridge that carry our mark be the wanted ones. Only pod ranges of this cluster are
// routed, whatever a Node object says.
func (c *cluster) setRoutes(want map[netip.Prefix]netip.Addr) error {
	bridge, err := netlink.LinkByName(c.linkPrefix())
	if err != nil {
		return fmt.Errorf("finding the bridge: %w", err)
	}
	filter := &netlink.Route{LinkIndex: bridge.Attrs().Index, Protocol: routeProtocol}
	var have []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
		})
		if err != nil {
			return fmt.Errorf("listing routes: %w", err)
		}
		have = append(have, list...)
	}
	for _, r := range have {
		if _, ok := want[prefixOf(r.Dst)]; ok {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("removing route to %s: %w", r.Dst, err)
		}
	}
	for pods, gateway := range want {
		if !slices.ContainsFunc(c.addr().pods(), func(p netip.Prefix) bool { return inside(p, pods) }) ||
			!slices.ContainsFunc(c.addr().nodes(), func(p netip.Prefix) bool { return p.Contains(gateway) }) {
			continue
		}
		r := &netlink.Route{Dst: ipnet(pods), Gw: gateway.AsSlice(), LinkIndex: bridge.Attrs().Index, Protocol: routeProtocol}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("adding route to %s: %w", pods, err)
		}
	}
	return nil
}

// inside says whether the second prefix is a part of the first.
func inside(whole, part netip.Prefix) bool {
	return part.Bits() >= whole.Bits() && whole.Contains(part.Addr())
}

func prefixOf(n *net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
