package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kube-proxy/announce"
	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/conntrack"
	"pilothouse.dev/kube-proxy/health"
	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/nodeaddr"
	"pilothouse.dev/kube-proxy/syncer"
	"pilothouse.dev/pkg/daemon"
)

// familyRooms are the rooms that know one address family. A node of two has them
// twice.
type familyRooms struct {
	name      string
	table     *changes.Tracker
	addresses *nodeaddr.Book
	syncer    *syncer.Syncer
}

func nameOf(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// newFamily makes the rooms of a family; ready returns when the table and the
// node's addresses are known.
func newFamily(cfg Config, v6 bool, kernel *nfconn.Conn, state *health.State, offer func(*changes.Table), ready func(context.Context) error, log *zap.Logger) *familyRooms {
	f := &familyRooms{name: nameOf(v6)}
	log = log.With(zap.String("family", f.name))
	f.table = changes.New(cfg.NodeName, v6)
	f.addresses = nodeaddr.New(cfg.nodePortRanges, v6, log.Named("nodeaddr"))
	f.syncer = syncer.New(syncer.Parts{
		Family: f.name, Table: f.table, Addresses: f.addresses,
		Rules: nftables.New(cfg.rulesOf(v6), kernel, log.Named("nftables")),
		Flows: conntrack.New(v6, cfg.netns), Health: state.Family(),
		Offer: offer, Ready: ready,
	}, syncer.Periods{Min: cfg.MinSyncPeriod, Verify: cfg.SyncPeriod}, log.Named("syncer"))
	return f
}

// hear tells the rooms of this node's own object.
func (f *familyRooms) hear(n *corev1.Node) {
	f.table.SetZone(n.Labels[corev1.LabelTopologyZone])
	f.addresses.SetNode(n)
}

func (f *familyRooms) addTo(g *daemon.Group) {
	g.Add("node addresses "+f.name, f.addresses.Run)
	g.Add("syncer "+f.name, f.syncer.Run)
}

// families are those this node has services of: the ranges of pods say which, and
// where none are given the machine's addresses do. A kernel without IPv6 has none
// of that.
func (c *Config) families(log *zap.Logger) ([]bool, error) {
	v4, v6 := c.podRanges[0].IsValid(), c.podRanges[1].IsValid()
	if !v4 && !v6 {
		var err error
		if v6, err = nodeaddr.HasIPv6(); err != nil {
			return nil, err
		}
		v4 = true
	}
	if _, err := os.Stat("/proc/net/if_inet6"); v6 && err != nil {
		log.Warn("the kernel has no IPv6: its services are not served here", zap.Error(err))
		v6 = false
	}
	switch {
	case v4 && v6:
		return []bool{false, true}, nil
	case v4:
		return []bool{false}, nil
	case v6:
		return []bool{true}, nil
	}
	return nil, fmt.Errorf("--cluster-cidr %s: this machine has no address of that family", c.ClusterCIDR)
}

// rulesOf is how the rules of a family are made.
func (c *Config) rulesOf(v6 bool) nftables.Config {
	rules := c.rules
	rules.V6, rules.PodCIDR = v6, c.podRanges[0]
	if v6 {
		rules.PodCIDR = c.podRanges[1]
	}
	return rules
}

// announced is which load balancer addresses this node may answer for.
func (c *Config) announced() announce.Config {
	return announce.Config{Node: c.NodeName, Ranges: c.rules.Balancers, NetNS: c.netns}
}

// homes asks the room of the family on which nodes a Service's endpoints are.
func homes(rooms *[]*familyRooms) func(namespace, service string, v6 bool) map[string]bool {
	return func(namespace, service string, v6 bool) map[string]bool {
		for _, f := range *rooms {
			if f.name == nameOf(v6) {
				return f.table.Homes(namespace, service)
			}
		}
		return nil
	}
}

// removeOthers deletes what an older run left of families that are not wanted.
func removeOthers(cfg Config, wanted []bool, kernel *nfconn.Conn, log *zap.Logger) error {
	for _, v6 := range []bool{false, true} {
		used := false
		for _, w := range wanted {
			used = used || w == v6
		}
		if used {
			continue
		}
		if err := nftables.New(cfg.rulesOf(v6), kernel, log).Remove(); err != nil {
			return fmt.Errorf("%s rules of an older run: %w", nameOf(v6), err)
		}
	}
	return nil
}

// podRange notes a range of --cluster-cidr: one a family.
func (c *Config) podRange(p netip.Prefix) error {
	at := &c.podRanges[0]
	if p.Addr().Is6() {
		at = &c.podRanges[1]
	}
	if at.IsValid() {
		return fmt.Errorf("--cluster-cidr %s: one range of each family at most", c.ClusterCIDR)
	}
	*at = p.Masked()
	return nil
}

// pending tells how many changes wait to be written, named as users of kube-proxy
// know it.
func pending(rooms []*familyRooms) []prometheus.Collector {
	gauge := func(name, help string, of func(changes.News) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			sum := 0
			for _, f := range rooms {
				sum += of(f.table.Pending())
			}
			return float64(sum)
		})
	}
	return []prometheus.Collector{
		gauge("kubeproxy_sync_proxy_rules_service_changes_pending", "Changes of Services heard of and not yet written.",
			func(n changes.News) int { return n.Services }),
		gauge("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "Changes of EndpointSlices heard of and not yet written.",
			func(n changes.News) int { return n.Slices }),
	}
}

// register shows collectors among the process's metrics until undo is called.
func register(all ...prometheus.Collector) (undo func()) {
	prometheus.MustRegister(all...)
	return func() {
		for _, c := range all {
			prometheus.Unregister(c)
		}
	}
}
