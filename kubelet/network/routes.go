package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Peer is another node: its pods' ranges, and its addresses.
type Peer struct {
	Name  string
	CIDRs []netip.Prefix
	IPs   []netip.Addr
}

// SetRoutes makes the node's routes exactly those to its own pods and to these other nodes' pods; only routes made here are ever removed. A node on one of this
// machine's links is reached directly, one behind a router through a tunnel. One that cannot be reached yet is told in the error, and the others are
// reached nevertheless. Called again with the same peers it mends what is missing, links of pods too. Where a CNI configuration is installed, its owner
// sets routes, and ours go.
func (n *Network) SetRoutes(ctx context.Context, peers []Peer) error {
	list, err := n.cni.installed()
	if err != nil {
		return err
	}
	if list != nil {
		peers = nil
	}
	n.mu.Lock()
	have, err := n.setRoutesLocked(peers)
	var lost []string
	if list == nil && n.restored && have != nil {
		var lostErr error
		lost, lostErr = n.lostLocked(have)
		err = errors.Join(err, n.sweepLocked(), n.bridgeLocked(), lostErr)
	}
	n.mu.Unlock()
	for _, key := range lost {
		err = errors.Join(err, n.rejoin(key))
	}
	return err
}

// setRoutesLocked does all of SetRoutes but what belongs to single pods, and returns the routes that were there, nil if they could not be read.
func (n *Network) setRoutesLocked(peers []Peer) (have []route, err error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	defer s.close()
	ways, err := waysTo(s, peers)
	if err != nil {
		return nil, err
	}
	direct, far, failed := choose(peers, ways, n.underlay())
	n.tunnel = len(far) > 0
	if err := n.measureLocked(); err != nil {
		return nil, err
	}
	want := n.rangesLocked()
	for _, r := range direct {
		r.from = n.from[r.to.Addr().Is4()]
		want = append(want, r)
	}
	if n.tunnel {
		through, err := n.digLocked(far)
		if err != nil {
			failed = append(failed, fmt.Errorf("making the tunnel to %s: %w", namesOf(far), err))
		}
		want = append(want, through...)
	}
	if have, err = ownRoutes(); err != nil {
		return nil, errors.Join(append(failed, err)...)
	}
	b := &batch{}
	add, remove := routeChanges(have, want)
	for _, r := range remove {
		if !r.toPod() || n.restored && !n.knownLocked(r.to.Addr()) {
			b.deleteRoute(r)
		}
	}
	for _, r := range add {
		b.route(r)
	}
	failed = append(failed, b.onHost(unix.ESRCH))
	if !n.tunnel {
		failed = append(failed, removeLinks(tunnelLink))
	}
	return have, errors.Join(failed...)
}

// toPod says whether this is a route to a pod of this node.
func (r route) toPod() bool { return r.kind == unix.RTN_UNICAST && !r.via.IsValid() }

func (n *Network) knownLocked(ip netip.Addr) bool {
	_, known := n.pools[ip.Is4()].taken[ip]
	return known
}

// rangesLocked keep packets to pods that are not there from going round between this node and its router: who sends them is told.
func (n *Network) rangesLocked() (want []route) {
	for _, v4 := range n.families {
		want = append(want, route{to: n.pools[v4].cidr, kind: unix.RTN_UNREACHABLE})
	}
	return want
}

// waysTo asks for all addresses of peers at once.
func waysTo(s socket, peers []Peer) (map[netip.Addr]found, error) {
	b := &batch{}
	ways := map[netip.Addr]found{}
	var asked []netip.Addr
	for _, p := range peers {
		for _, ip := range p.IPs {
			if _, twice := ways[ip]; !twice {
				ways[ip] = found{}
				asked = append(asked, ip)
				b.lookup(ip)
			}
		}
	}
	answers, err := b.send(s)
	if err != nil {
		return nil, err
	}
	bare := map[int]bool{}
	for i, a := range answers {
		w, err := wayOf(a)
		if err == nil && w.kind == unix.RTN_UNICAST && !w.behind {
			if w.behind, err = isBare(bare, w.link); err != nil {
				return nil, err
			}
		}
		ways[asked[i]] = found{w, err}
	}
	return ways, nil
}

// isBare says whether a link (of WireGuard and its like) knows no hardware addresses: who is at its other end takes packets for himself only, so his pods
// are as far as if he were behind a router. What is known already is in bare.
func isBare(bare map[int]bool, index int) (bool, error) {
	is, known := bare[index]
	if !known {
		link, err := netlink.LinkByIndex(index)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return false, nil // it went this moment; the route will say so
		}
		if err != nil {
			return false, fmt.Errorf("finding link %d: %w", index, err)
		}
		is = link.Attrs().RawFlags&unix.IFF_NOARP != 0
		bare[index] = is
	}
	return is, nil
}

// found is a way, or why there is none.
type found struct {
	way
	err error
}

// choose decides how each range of each peer is reached: by a route over one of this machine's links, or (far) through a tunnel, which begins at this node's
// address under.
func choose(peers []Peer, ways map[netip.Addr]found, under netip.Addr) (direct []route, far []distant, failed []error) {
	taken := map[netip.Prefix]bool{}
	for _, p := range peers {
		var hidden []netip.Prefix
		for _, c := range p.CIDRs {
			c = c.Masked()
			if taken[c] {
				failed = append(failed, fmt.Errorf("node %s has a pod range that another node has, too: %s", p.Name, c))
				continue
			}
			taken[c] = true
			via := of(p.IPs, c.Addr().Is4())
			switch w := ways[via]; {
			case !via.IsValid() || w.err == nil && w.behind:
				hidden = append(hidden, c)
			case w.err != nil:
				failed = append(failed, fmt.Errorf("node %s cannot be reached at %s: %w; its pods (%s) wait for a route from this machine to it", p.Name, via, w.err, c))
			case w.kind != unix.RTN_UNICAST:
				failed = append(failed, fmt.Errorf("node %s says that it has address %s, which is this node's own or nobody's: its pods (%s) cannot be reached", p.Name, via, c))
			default:
				direct = append(direct, route{to: c, kind: unix.RTN_UNICAST, via: via, link: w.link})
			}
		}
		if len(hidden) == 0 {
			continue
		}
		end := netip.Addr{}
		if under.IsValid() {
			end = of(p.IPs, under.Is4())
		}
		if w := ways[end]; !end.IsValid() || w.err != nil || w.kind != unix.RTN_UNICAST {
			failed = append(failed, fmt.Errorf("node %s is on no link of this machine, and has no address of the family of this node's address (%s) to which a tunnel could lead", p.Name, under))
			continue
		}
		far = append(far, distant{p.Name, end, hidden})
	}
	return direct, far, failed
}

// of is the first address of a family; invalid if there is none.
func of(ips []netip.Addr, v4 bool) netip.Addr {
	for _, ip := range ips {
		if ip.Is4() == v4 {
			return ip
		}
	}
	return netip.Addr{}
}

func namesOf(far []distant) string {
	var names []string
	for _, f := range far {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// routeChanges is the difference; a range that is reached another way than before is added (replaced), not removed.
func routeChanges(have, want []route) (add, remove []route) {
	type place struct {
		to   netip.Prefix
		kind uint8
	}
	wanted := make(map[place]route, len(want))
	for _, r := range want {
		wanted[place{r.to, r.kind}] = r
	}
	for _, r := range have {
		switch w, ok := wanted[place{r.to, r.kind}]; {
		case !ok:
			remove = append(remove, r)
		case w == r:
			delete(wanted, place{r.to, r.kind})
		}
	}
	for _, r := range want {
		if _, ok := wanted[place{r.to, r.kind}]; ok {
			add = append(add, r)
			delete(wanted, place{r.to, r.kind})
		}
	}
	return add, remove
}
