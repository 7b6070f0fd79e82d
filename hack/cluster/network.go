package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// blackholeMetric makes the blackholes the last resort: any route to a part of the range, or to all of it, comes first.
const blackholeMetric = 1 << 30

// linkPrefix starts the name of every link of this cluster on this machine. It comes from the name alone, so that links are
// found even when all records are lost.
func (c *cluster) linkPrefix() string {
	h := fnv.New32a()
	h.Write([]byte(c.name))
	return fmt.Sprintf("ph%06x", h.Sum32()&0xffffff)
}

// raiseNetwork makes the blackholes, the bridge and, if asked for, the way out. Repeating it mends what is missing.
func (c *cluster) raiseNetwork() error {
	for _, p := range c.addr().all() {
		r := &netlink.Route{Dst: ipnet(p), Type: unix.RTN_BLACKHOLE, Priority: blackholeMetric}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("adding blackhole route under %s: %w", p, err)
		}
	}
	bridge, err := c.ensureBridge()
	if err != nil {
		return err
	}
	if c.addr().has(true) {
		if err := setIPv6(bridgeIPv6(c.linkPrefix())); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(bridge); err != nil { // an IPv6 address goes when a link is lowered, so it comes after this
		return fmt.Errorf("raising the bridge: %w", err)
	}
	if err := c.addAddresses(bridge, c.addr().bridges()); err != nil {
		return fmt.Errorf("giving the bridge its address: %w", err)
	}
	if c.state.Uplink {
		return c.raiseUplink()
	}
	return nil
}

// bridgeIPv6 are the settings of the bridge: it learns nothing from what comes over it, and its addresses serve at once.
func bridgeIPv6(bridge string) []struct{ path, value string } {
	return []struct{ path, value string }{{bridge + "/disable_ipv6", "0"}, {bridge + "/accept_ra", "0"}, {bridge + "/accept_dad", "0"}}
}

// addAddresses gives a link its addresses among the nodes.
func (c *cluster) addAddresses(link netlink.Link, ips []netip.Addr) error {
	for _, ip := range ips {
		for _, p := range c.addr().nodes() {
			if !p.Contains(ip) {
				continue
			}
			addr := &netlink.Addr{IPNet: ipnet(netip.PrefixFrom(ip, p.Bits()))}
			if ip.Is6() {
				addr.Flags = unix.IFA_F_NODAD // nobody else can have it, and it serves at once
			}
			if err := netlink.AddrReplace(link, addr); err != nil {
				return fmt.Errorf("adding %s: %w", ip, err)
			}
		}
	}
	return nil
}

func (c *cluster) ensureBridge() (netlink.Link, error) {
	link, err := netlink.LinkByName(c.linkPrefix())
	if err == nil {
		return link, nil
	}
	if !errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, fmt.Errorf("looking for the bridge: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Alias = c.linkPrefix(), "pilothouse cluster "+c.name
	// A fixed address: otherwise the bridge takes that of its lowest port, and changes it as nodes come and go.
	attrs.HardwareAddr = c.addr().hardware(1)
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("making the bridge: %w", err)
	}
	return netlink.LinkByName(c.linkPrefix())
}

// lowerNetwork removes every link and route of the cluster; the blackholes go last.
func (c *cluster) lowerNetwork() error {
	if err := c.lowerLinks(); err != nil {
		return err
	}
	if err := c.lowerUplink(); err != nil {
		return err
	}
	for _, p := range c.addr().all() {
		r := &netlink.Route{Dst: ipnet(p), Type: unix.RTN_BLACKHOLE, Priority: blackholeMetric}
		if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("removing blackhole route under %s: %w", p, err)
		}
	}
	return nil
}

// lowerLinks removes the links, and with them the routes that lead over them; it needs to know nothing but the name.
func (c *cluster) lowerLinks() error {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	for _, l := range links {
		if !strings.HasPrefix(l.Attrs().Name, c.linkPrefix()) {
			continue
		}
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("removing link %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

const forwardFile = "/proc/sys/net/ipv4/ip_forward"

// raiseUplink lets nodes and pods reach the world under this machine's address. The cluster's own ranges still end in the
// blackholes, here and in every node.
func (c *cluster) raiseUplink() error {
	if c.state.Forward == "" {
		was, err := os.ReadFile(forwardFile)
		if err != nil {
			return fmt.Errorf("reading ip_forward: %w", err)
		}
		c.state.Forward = strings.TrimSpace(string(was))
		if err := c.save(); err != nil {
			return err
		}
	}
	if err := os.WriteFile(forwardFile, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("setting ip_forward: %w", err)
	}
	a := c.addr()
	i := slices.Index(a.six(), false) // the world is reached by IPv4 only: to pass on IPv6 this machine would have to be a router
	return nft(fmt.Sprintf(`table ip %[1]s {}
delete table ip %[1]s
table ip %[1]s {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		ip saddr { %[2]s, %[3]s } oifname != %[4]q masquerade
	}
}`, c.linkPrefix(), joined(a.nodes()[i:i+1]), joined(a.pods()[i:i+1]), c.linkPrefix()))
}

func (c *cluster) lowerUplink() error {
	if !c.state.Uplink {
		return nil
	}
	if err := nft(fmt.Sprintf("table ip %[1]s {}\ndelete table ip %[1]s", c.linkPrefix())); err != nil {
		return err
	}
	if c.state.Forward == "0" {
		if err := os.WriteFile(forwardFile, []byte("0"), 0o644); err != nil {
			return fmt.Errorf("setting ip_forward back: %w", err)
		}
	}
	return nil
}

func nft(rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("setting packet rules: %w: %s", err, out)
	}
	return nil
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// whole lists again while the kernel says that the list changed under it: half a list is none.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		got, err := list()
		if try == listTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
}

// listTries bounds that: a machine on which links or routes change without pause says so.
const listTries = 100
