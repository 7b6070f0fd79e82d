// Package conntrack makes the kernel forget UDP flows that go where they no
// longer should.
//
// Rules are asked once a connection; afterwards the connection table decides.
// TCP notices when its endpoint is gone. A UDP client that keeps sending from
// one port, as DNS resolvers do, would be sent to the dead endpoint for as long
// as it sends. So after a change the syncer hands over the wish before and the
// wish now, and flows that the rules would send elsewhere today are deleted:
// their next packet is a first packet again.
//
// Which services need a look is pure (stale.go); without one the table is not read.
package conntrack

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kube-proxy/nftables"
)

// Table is the kernel's connection table, of one address family.
type Table struct {
	family netlink.InetFamily
	ns     netns.NsHandle
}

// New makes a Table. ns is the file descriptor of a network namespace, 0 for the
// process's own.
func New(v6 bool, ns int) *Table {
	t := &Table{family: unix.AF_INET, ns: netns.NsHandle(ns)}
	if v6 {
		t.family = unix.AF_INET6
	}
	if ns == 0 {
		t.ns = netns.None()
	}
	return t
}

// Forget deletes the flows that the change from one wish to the next made stale,
// and tells how many there were.
func (t *Table) Forget(was, now nftables.Wish) (int, error) {
	look := stale(was, now)
	if len(look) == 0 {
		return 0, nil
	}
	h, err := t.open()
	if err != nil {
		return 0, fmt.Errorf("opening netlink: %w", err)
	}
	defer h.Close()
	n, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, t.family, look)
	if err != nil {
		return int(n), fmt.Errorf("deleting stale flows: %w", err)
	}
	return int(n), nil
}

func (t *Table) open() (*netlink.Handle, error) {
	if t.ns.IsOpen() {
		return netlink.NewHandleAt(t.ns, unix.NETLINK_NETFILTER)
	}
	return netlink.NewHandle(unix.NETLINK_NETFILTER)
}

// MatchConntrackFlow tells whether the flow must be forgotten.
func (l look) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	asked, ok := addrPort(f.Forward.DstIP, f.Forward.DstPort)
	if !ok {
		return false
	}
	answers, ok := addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort)
	return ok && l.match(flow{asked, answers, f.TimeOut <= briefTimeout})
}

// briefTimeout is what a brief flow has left to live, in seconds, once it was silent
// for a second: before that an answer may be on its way, which would not be brought
// back without the flow. The kernel gives 30 to what is no stream and 120 to a
// stream, one that went to and fro for two seconds
// (https://docs.kernel.org/networking/nf_conntrack-sysctl.html). A stream that was
// silent for so long that it has no more is taken for brief. What is too young now
// goes with the service's next change.
const briefTimeout = 28

func addrPort(ip []byte, port uint16) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port), ok
}
