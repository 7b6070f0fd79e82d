package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ours marks routes made here, so that no other's is ever removed. The kernel only stores it.
const ours netlink.RouteProtocol = 87

// SetRoutes makes the node's routes to other nodes' pods exactly these; only routes made here are ever removed. A route whose gateway
// cannot be reached yet is reported, and the others are set nevertheless. Where a CNI configuration is installed, its owner sets routes, and ours go.
func (n *Network) SetRoutes(ctx context.Context, want []Route) error {
	list, err := n.cni.installed()
	if err != nil {
		return err
	}
	if list != nil {
		want = nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	have, err := ownRoutes()
	if err != nil {
		return err
	}
	add, remove := routeChanges(have, want)
	var failed []error
	for _, r := range remove {
		err := netlink.RouteDel(&netlink.Route{Dst: ipNet(r.CIDR), Gw: r.Via.AsSlice(), Protocol: ours})
		if err != nil && !errors.Is(err, unix.ESRCH) {
			failed = append(failed, fmt.Errorf("removing route to %s: %w", r.CIDR, err))
		}
	}
	for _, r := range add {
		// Replace: a node that got a new address keeps its range.
		if err := netlink.RouteReplace(&netlink.Route{Dst: ipNet(r.CIDR), Gw: r.Via.AsSlice(), Protocol: ours}); err != nil {
			failed = append(failed, fmt.Errorf("setting route to %s by %s: %w", r.CIDR, r.Via, err))
		}
	}
	return errors.Join(failed...)
}

func ownRoutes() ([]Route, error) {
	list, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: ours}, netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	var found []Route
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		via, ok2 := netip.AddrFromSlice(r.Gw.To4())
		if !ok || !ok2 {
			continue
		}
		bits, _ := r.Dst.Mask.Size()
		found = append(found, Route{CIDR: netip.PrefixFrom(ip, bits), Via: via})
	}
	return found, nil
}

// routeChanges is the difference; a range that only changes its gateway is added (replaced), not removed.
func routeChanges(have, want []Route) (add, remove []Route) {
	wanted := make(map[netip.Prefix]netip.Addr, len(want))
	for _, r := range want {
		wanted[r.CIDR.Masked()] = r.Via
	}
	for _, r := range have {
		via, ok := wanted[r.CIDR]
		switch {
		case !ok:
			remove = append(remove, r)
		case via == r.Via:
			delete(wanted, r.CIDR)
		}
	}
	for _, r := range want {
		if via, ok := wanted[r.CIDR.Masked()]; ok {
			add = append(add, Route{CIDR: r.CIDR.Masked(), Via: via})
			delete(wanted, r.CIDR.Masked())
		}
	}
	return add, remove
}
