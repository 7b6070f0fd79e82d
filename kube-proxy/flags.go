package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pilothouse.dev/kube-proxy/nftables"
)

// Config is what the flags say.
type Config struct {
	Kubeconfig       string
	NodeName         string
	ClusterCIDR      string
	NodePortRanges   cli.StringSlice
	MetricsAddress   string
	HealthzAddress   string
	SyncPeriod       time.Duration
	MinSyncPeriod    time.Duration
	MasqueradeAll    bool
	MasqueradeEgress bool
	MasqueradeBit    uint
	BalancerRanges   string
	NetworkPolicy    bool
	Cleanup          bool

	// Made of the above by complete.
	rules          nftables.Config
	netns          int // of the rules; 0: the process's own. Tests have others
	nodePortRanges []netip.Prefix
	podRanges      [2]netip.Prefix // of IPv4 and of IPv6; not valid: none
}

func (c *Config) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kubeconfig", Destination: &c.Kubeconfig, Usage: "`FILE` that says where the API server is and who we are"},
		&cli.StringFlag{Name: "hostname-override", Destination: &c.NodeName, Usage: "this node's `NAME` (default: the host name)"},
		&cli.StringFlag{Name: "cluster-cidr", Destination: &c.ClusterCIDR, Usage: "`RANGES` of all pods, one of IPv4, of IPv6 or of both; callers of services from outside them are masqueraded, and so is what leaves them"},
		&cli.StringSliceFlag{Name: "nodeport-addresses", Destination: &c.NodePortRanges, Usage: "`RANGES` whose addresses on this machine answer node ports, or \"primary\": those the Node object names (default: primary)"},
		&cli.StringFlag{Name: "metrics-bind-address", Value: "127.0.0.1:10249", Destination: &c.MetricsAddress, Usage: "`ADDRESS` of /metrics, /livez, /readyz and /debug/pprof; empty: none"},
		&cli.StringFlag{Name: "healthz-bind-address", Value: "0.0.0.0:10256", Destination: &c.HealthzAddress, Usage: "`ADDRESS` of /healthz for load balancers, in plain HTTP; empty: none"},
		&cli.DurationFlag{Name: "sync-period", Value: 30 * time.Second, Destination: &c.SyncPeriod, Usage: "how often rules are looked after though nothing has changed"},
		&cli.DurationFlag{Name: "min-sync-period", Value: 20 * time.Millisecond, Destination: &c.MinSyncPeriod, Usage: "least time between two writes of rules"},
		&cli.BoolFlag{Name: "masquerade-all", Destination: &c.MasqueradeAll, Usage: "masquerade every call of a service"},
		&cli.BoolFlag{Name: "masquerade-egress", Value: true, Destination: &c.MasqueradeEgress, Usage: "masquerade what goes from pods to outside --cluster-cidr"},
		&cli.UintFlag{Name: "iptables-masquerade-bit", Value: 14, Destination: &c.MasqueradeBit, Usage: "`BIT` of the packet mark that asks for masquerading"},
		&cli.StringFlag{Name: "load-balancer-cidr", Destination: &c.BalancerRanges, Usage: "the `RANGES`, with commas between, of load balancer addresses that nodes answer for themselves: as the controller manager has them, or less; empty: none"},
		&cli.BoolFlag{Name: "enable-network-policy", Value: true, Destination: &c.NetworkPolicy, Usage: "enforce NetworkPolicies for the pods of this node; turn it off where the CNI network does"},
		&cli.BoolFlag{Name: "cleanup", Destination: &c.Cleanup, Usage: "delete the rules and end"},
	}
}

// complete checks the flags and reads what they spell.
func (c *Config) complete() error {
	if c.Kubeconfig == "" && !c.Cleanup {
		return errors.New("--kubeconfig is needed")
	}
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("reading the host name: %w", err)
		}
		c.NodeName = strings.ToLower(name)
	}
	if c.MasqueradeBit > 31 {
		return fmt.Errorf("--iptables-masquerade-bit %d: a mark has bits 0 to 31", c.MasqueradeBit)
	}
	if c.SyncPeriod <= 0 || c.MinSyncPeriod < 0 || c.MinSyncPeriod > c.SyncPeriod {
		return fmt.Errorf("--sync-period %s must be above 0 and not below --min-sync-period %s", c.SyncPeriod, c.MinSyncPeriod)
	}
	c.rules = nftables.Config{MasqueradeAll: c.MasqueradeAll, MasqueradeEgress: c.MasqueradeEgress, MasqueradeBit: uint8(c.MasqueradeBit)}
	for _, s := range split(c.ClusterCIDR) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("--cluster-cidr: %w", err)
		}
		if err := c.podRange(p); err != nil {
			return err
		}
	}
	for _, s := range split(c.BalancerRanges) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("--load-balancer-cidr: %w", err)
		}
		c.rules.Balancers = append(c.rules.Balancers, p.Masked())
	}
	for _, s := range c.NodePortRanges.Value() {
		if s == "primary" {
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("--nodeport-addresses: %w", err)
		}
		c.nodePortRanges = append(c.nodePortRanges, p.Masked())
	}
	return nil
}

// split reads a list separated by commas.
func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
