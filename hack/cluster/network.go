package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"os/exec"
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
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: c.addr().bridge().AsSlice(), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrReplace(bridge, addr); err != nil {
		return fmt.Errorf("giving the bridge its address: %w", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("raising the bridge: %w", err)
	}
	if c.state.Uplink {
		return c.raiseUplink()
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
	attrs.HardwareAddr = hardwareAddr(c.addr().bridge())
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
	return nft(fmt.Sprintf(`table ip %[1]s {}
delete table ip %[1]s
table ip %[1]s {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		ip saddr { %[2]s, %[3]s } oifname != %[4]q masquerade
	}
}`, c.linkPrefix(), a.nodes(), a.pods(), c.linkPrefix()))
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

// hardwareAddr is a locally administered address made from an IPv4 one.
func hardwareAddr(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x02, 0x70, b[0], b[1], b[2], b[3]}
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
