package network

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"
)

// TestMend: what somebody takes away from a running node is there again after SetRoutes, and what nobody needs goes; a restart changes nothing.
func TestMend(t *testing.T) {
	ctx := context.Background()
	a, b := newPod(t), newPod(t)
	ips := map[string][]netip.Addr{"a": addresses("10.244.7.2 fd00:7::2"), "b": addresses("10.244.7.3 fd00:7::3")}
	inNamespace(t, func() {
		up0 := uplink(t, 1500, "10.7.0.1/24 fd07::1/64")
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		config := Config{NodeIPs: addresses("10.7.0.1 fd07::1")}
		n := New(config, zaptest.NewLogger(t))
		n.Restore(nil)
		must(n.SetPodCIDRs(ctx, prefixes("10.244.7.0/24 fd00:7::/64")))
		peers := []Peer{{"n2", prefixes("10.244.2.0/24 fd00:2::/64"), addresses("10.7.0.2 fd07::2")}}
		for key, p := range map[string]*pod{"a": a, "b": b} {
			n.Restore([]Held{{key, ips[key][0], p.path}, {key, ips[key][1], p.path}})
			_, err := n.Setup(ctx, Pod{Key: key, NetNS: p.path, Namespace: "shop", Name: key, Bandwidth: Bandwidth{Egress: 1e9}})
			must(err)
		}
		must(n.SetRoutes(ctx, peers))
		must(netlink.RouteAdd(&netlink.Route{LinkIndex: up0.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("10.6.0.0/24"))})) // somebody else's
		picture := func() string {
			t.Helper()
			have, err := ownRoutes()
			must(err)
			var lines []string
			for _, r := range have {
				link := ""
				if l, err := netlink.LinkByIndex(r.link); err == nil {
					link = l.Attrs().Name
				}
				lines = append(lines, fmt.Sprint(r, " ", link, " from ", r.from))
			}
			slices.Sort(lines)
			names := links(t)
			slices.Sort(names)
			return strings.Join(append(lines, names...), "\n")
		}
		good := picture()
		serve(t, a)
		serve(t, b)
		check := func(what string) {
			t.Helper()
			must(n.SetRoutes(ctx, peers))
			if got := picture(); got != good {
				t.Errorf("%s:\n%s\nwant\n%s", what, got, good)
			}
			a.has(t, ips["a"]...)
			b.has(t, ips["b"]...)
			for _, ip := range slices.Concat(ips["a"], ips["b"]) {
				if _, err := dial(netip.AddrPortFrom(ip, 7777)); err != nil {
					t.Errorf("%s: calling %s: %v", what, ip, err)
				}
			}
		}
		lose := func(ips string) {
			t.Helper()
			have, err := ownRoutes()
			must(err)
			batch := &batch{}
			for _, r := range have {
				if slices.Contains(strings.Fields(ips), r.to.Addr().String()) {
					batch.deleteRoute(r)
				}
			}
			must(batch.onHost())
		}
		check("nothing")
		lose("10.244.7.2")
		check("a pod's route")
		lose("10.244.7.2 fd00:7::2 fd00:7::3 10.244.2.0 fd00:2:: 10.244.7.0 fd00:7::")
		check("many routes")
		host, err := netlink.LinkByName(hostLink("a"))
		must(err)
		must(netlink.LinkSetDown(host))
		check("a link that was set down")
		must(netlink.LinkDel(host))
		check("a link that was deleted")
		stray := &batch{}
		stray.route(podRoute(netip.MustParseAddr("10.244.7.99"), up0.Attrs().Index, netip.Addr{}))
		stray.route(podRoute(netip.MustParseAddr("fd00:7::99"), up0.Attrs().Index, netip.Addr{}))
		must(stray.onHost())
		check("routes to pods that nobody knows")

		// The next kubelet is told of the pods after it began; it must not take them for strangers before. Links that a killed one left go.
		must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: hostLink("lost")}, PeerName: "peer"}))
		must(netlink.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: shaperLink("lost")}}))
		n = New(config, zaptest.NewLogger(t))
		must(n.SetPodCIDRs(ctx, prefixes("10.244.7.0/24 fd00:7::/64")))
		must(n.SetRoutes(ctx, peers))
		if got := picture(); !strings.Contains(got, "10.244.7.2/32") || !strings.Contains(got, hostLink("lost")) {
			t.Errorf("before it knows its pods:\n%s", got)
		}
		n.Restore([]Held{{"a", ips["a"][0], a.path}, {"a", ips["a"][1], a.path}, {"b", ips["b"][0], b.path}, {"b", ips["b"][1], b.path}})
		check("a restart")
		lose("10.244.7.3 fd00:7::2")
		check("routes after a restart")
		must(n.Teardown(ctx, b.path, "b"))
		must(n.SetRoutes(ctx, peers))
		if got := picture(); strings.Contains(got, "10.244.7.3/32") || strings.Contains(got, hostLink("b")) {
			t.Errorf("a pod that is no more:\n%s", got)
		}

		// The node gets another address: its packets to pods must not bear the old one.
		addrs, err := netlink.AddrList(up0, netlink.FAMILY_V4)
		must(err)
		must(netlink.AddrAdd(up0, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.7.0.77/25"))}))
		must(netlink.AddrDel(up0, &addrs[0]))
		n.cfg.NodeIPs = addresses("10.7.0.77 fd07::1")
		must(n.SetRoutes(ctx, peers))
		if seen, err := dial(netip.AddrPortFrom(ips["a"][0], 7777)); err != nil || seen != "10.7.0.77" {
			t.Errorf("with another address the node is seen as %s, %v", seen, err)
		}
		must(n.Remove(ctx))
		if got := links(t); len(got) != 2 {
			t.Errorf("after remove: links %v", got)
		}
		others, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.6.0.0/24"))}, netlink.RT_FILTER_DST)
		if err != nil || len(others) != 1 {
			t.Errorf("somebody else's route: %v, %v", others, err)
		}
	})
}

// TestSetupAfterCrash: a kubelet was killed at any line of Setup; the next one sets up the same pod in another namespace, or in the same.
func TestSetupAfterCrash(t *testing.T) {
	ctx := context.Background()
	for name, there := range map[string]bool{"the same namespace": true, "a new namespace": false} {
		t.Run(name, func(t *testing.T) {
			old, now := newPod(t), newPod(t)
			if there {
				now = old
			}
			inNamespace(t, func() {
				w := wiring{name: hostLink("a"), ips: addresses("10.244.7.9"), from: map[bool]netip.Addr{}, mtu: 1500, ipv6: true}
				halves := []func() error{ // what was done when it was killed
					func() error { _, err := connect(old.path, w); return err },
					func() error { return onlyPair(old, w) },
				}
				for i, half := range halves {
					n := New(Config{}, zaptest.NewLogger(t))
					if err := n.SetPodCIDRs(ctx, prefixes("10.244.7.0/24 fd00:7::/64")); err != nil {
						t.Error(err)
					}
					if err := half(); err != nil {
						t.Error(err)
					}
					at, err := n.Setup(ctx, Pod{Key: "a", NetNS: now.path})
					if err != nil {
						t.Errorf("%d: %v", i, err)
						continue
					}
					now.has(t, at.Addresses()...)
					if got := links(t); len(got) != 1 {
						t.Errorf("%d: links %v", i, got)
					}
					if err := n.Teardown(ctx, now.path, "a"); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// onlyPair makes the link and nothing else of it.
func onlyPair(p *pod, w wiring) error {
	ns, err := os.Open(p.path)
	if err != nil {
		return err
	}
	defer ns.Close()
	s, err := openSocket()
	if err != nil {
		return err
	}
	defer s.close()
	_, err = pair(s, ns, w)
	return err
}

// TestOldBridge: pods on the bridge of an earlier version stay there, reach the new ones, and the last takes the bridge along.
func TestOldBridge(t *testing.T) {
	ctx := context.Background()
	old, fresh := newPod(t), newPod(t)
	serve(t, old)
	serve(t, fresh)
	inNamespace(t, func() {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: oldBridge}}
		must(netlink.LinkAdd(bridge))
		must(netlink.AddrAdd(bridge, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.244.7.1/24"))}))
		must(netlink.LinkSetUp(bridge))
		cableInto(t, hostLink("old"), bridge, end{old, "eth0", "10.244.7.2/24"})
		old.gateways(t, "10.244.7.1")

		n := New(Config{}, zaptest.NewLogger(t))
		n.Restore([]Held{{"old", netip.MustParseAddr("10.244.7.2"), old.path}})
		must(n.SetPodCIDRs(ctx, prefixes("10.244.7.0/24")))
		at, err := n.Setup(ctx, Pod{Key: "fresh", NetNS: fresh.path})
		must(err)
		if len(at.IPs) != 1 || at.IPs[0].String() != "10.244.7.3/32" {
			t.Errorf("got %v", at)
		}
		for range 2 {
			must(n.SetRoutes(ctx, nil))
			if seen := ask(t, fresh, netip.MustParseAddr("10.244.7.2")); seen != "10.244.7.3" {
				t.Errorf("the new pod was seen as %s", seen)
			}
			if seen := ask(t, old, netip.MustParseAddr("10.244.7.3")); seen != "10.244.7.2" {
				t.Errorf("the old pod was seen as %s", seen)
			}
		}
		must(n.Teardown(ctx, old.path, "old"))
		must(n.SetRoutes(ctx, nil))
		if got := links(t); len(got) != 1 || got[0] != at.HostLink {
			t.Errorf("links %v", got)
		}
	})
}
