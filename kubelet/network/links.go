package network

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const podLink = "eth0"

// hostLink is the name of a pod's veth on the node; a link name has at most 15 characters.
func hostLink(podKey string) string {
	sum := sha256.Sum256([]byte(podKey))
	return "pv" + hex.EncodeToString(sum[:])[:12]
}

// makeBridge makes or repairs the bridge, and leaves on it exactly one IPv4 address.
func makeBridge(name string, addr netip.Prefix, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	// A bridge without an address of its own takes the lowest of its ports' and changes it with every pod; neighbours would lose it.
	attrs.HardwareAddr = macOf(addr.Addr())
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding link: %w", err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link: %w", err)
	}
	if _, ok := link.(*netlink.Bridge); !ok {
		return fmt.Errorf("a link of this name is a %s", link.Type())
	}
	if !bytes.Equal(link.Attrs().HardwareAddr, attrs.HardwareAddr) {
		if err := netlink.LinkSetHardwareAddr(link, attrs.HardwareAddr); err != nil {
			return fmt.Errorf("setting hardware address: %w", err)
		}
	}
	if link.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("setting MTU: %w", err)
		}
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("setting address: %w", err)
	}
	have, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	for _, a := range have {
		if a.IP.Equal(addr.Addr().AsSlice()) && a.Mask.String() == ipNet(addr).Mask.String() {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("removing old address: %w", err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting up: %w", err)
	}
	return nil
}

// connect makes the veth pair with its far end already in the pod's namespace, then the pod's side, then the node's.
func connect(bridge, netnsPath string, a Attachment, mtu int) (err error) {
	ns, err := netns.GetFromPath(netnsPath)
	if err != nil {
		return fmt.Errorf("opening network namespace: %w", err)
	}
	defer ns.Close()
	pod, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("entering network namespace: %w", err)
	}
	defer pod.Close()
	if _, err := pod.LinkByName(podLink); err == nil {
		return nil // a second Setup
	}
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("finding bridge: %w", err)
	}
	// A link of that name with no eth0 behind it is a leftover of an older sandbox of this pod.
	if err := removeLink(a.HostLink); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = a.HostLink, mtu, master.Attrs().Index, net.FlagUp
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         podLink,
		PeerNamespace:    netlink.NsFd(ns),
		PeerHardwareAddr: macOf(a.IPs[0].Addr()),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("adding veth: %w", err)
	}
	if err := setUpPodSide(pod, a); err != nil {
		return err
	}
	host, err := netlink.LinkByName(a.HostLink)
	if err != nil {
		return fmt.Errorf("finding veth: %w", err)
	}
	// A pod must reach itself through a Service: its packet comes back by the port it left from.
	if err := netlink.LinkSetHairpin(host, true); err != nil {
		return fmt.Errorf("setting hairpin: %w", err)
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return fmt.Errorf("setting veth up: %w", err)
	}
	return nil
}

func setUpPodSide(pod *netlink.Handle, a Attachment) error {
	eth, err := pod.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("finding %s: %w", podLink, err)
	}
	if err := pod.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(a.IPs[0])}); err != nil {
		return fmt.Errorf("setting pod address: %w", err)
	}
	if err := pod.LinkSetUp(eth); err != nil {
		return fmt.Errorf("setting %s up: %w", podLink, err)
	}
	if err := pod.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: a.Gateways[0].AsSlice()}); err != nil {
		return fmt.Errorf("setting default route: %w", err)
	}
	return nil
}

// removeLink deletes a link by name; a missing one is no error.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing link %s: %w", name, err)
	}
	return nil
}

// allowForwarding makes the node a router. /proc/sys/net is that of the caller's network namespace.
func allowForwarding() error {
	const file = "/proc/sys/net/ipv4/ip_forward"
	have, err := os.ReadFile(file)
	if err == nil && bytes.HasPrefix(have, []byte("1")) {
		return nil // it may be read-only, and needs no write
	}
	if err := os.WriteFile(file, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("allowing forwarding: %w", err)
	}
	return nil
}

// macOf is an address of our own making (locally administered), the same for the same IP: a pod's neighbours need no news when it is
// made anew.
func macOf(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

func ipNet(p netip.Prefix) *net.IPNet {
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
