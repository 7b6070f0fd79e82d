package hostports

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Rules are asked once a connection. A UDP client that keeps sending from one port would be led to the former owner of a host port for as long as it
// sends, and one that began before the port was opened would not be led anywhere. Such flows are forgotten: their next packet is a first one again.

// stale are the UDP fronts that were changed, each with where it leads now (invalid: nowhere), and where it led.
type stale struct {
	changed map[front]change
	own     map[netip.Addr]bool // this node's addresses, where a front of all of them is concerned
}

type change struct{ was, now netip.AddrPort }

func staleOf(was, now book) stale {
	out := stale{changed: map[front]change{}}
	note := func(f front) {
		if f.protocol == udp && was[f].to != now[f].to {
			out.changed[f] = change{was[f].to, now[f].to}
		}
	}
	for f := range was {
		note(f)
	}
	for f := range now {
		note(f)
	}
	return out
}

// forget deletes the flows that a change of the book made stale, and says how many there were. Without a change of a UDP port the connection table is
// not read.
func forget(was, now book) (uint, error) {
	s := staleOf(was, now)
	families := map[bool]bool{}
	for f := range s.changed {
		families[f.addr.Is6()] = true
	}
	if len(families) == 0 {
		return 0, nil
	}
	if err := s.readOwn(); err != nil {
		return 0, err
	}
	var n uint
	for v6 := range families {
		family := netlink.InetFamily(unix.AF_INET)
		if v6 {
			family = unix.AF_INET6
		}
		deleted, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, s)
		if n += deleted; err != nil {
			return n, fmt.Errorf("deleting stale flows: %w", err)
		}
	}
	return n, nil
}

func (s *stale) readOwn() error {
	const tries = 100
	for try := 1; ; try++ {
		list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if errors.Is(err, netlink.ErrDumpInterrupted) && try < tries {
			continue // it changed under the reading
		}
		if err != nil {
			return fmt.Errorf("listing addresses: %w", err)
		}
		s.own = map[netip.Addr]bool{}
		for _, a := range list {
			if ip, ok := netip.AddrFromSlice(a.IP); ok {
				s.own[ip.Unmap()] = true
			}
		}
		return nil
	}
}

// MatchConntrackFlow tells whether the flow must be forgotten.
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != udp {
		return false
	}
	asked, ok := addrPort(flow.Forward.DstIP, flow.Forward.DstPort)
	if !ok {
		return false
	}
	answers, ok := addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
	return ok && s.match(asked, answers)
}

// match tells it of who was asked and who answers.
func (s stale) match(asked, answers netip.AddrPort) bool {
	c, ok := s.changed[front{asked.Addr(), udp, asked.Port()}]
	if !ok {
		if c, ok = s.changed[front{unspecified(asked.Addr()), udp, asked.Port()}]; !ok || !s.own[asked.Addr()] {
			return false
		}
	}
	if c.now.IsValid() {
		return answers != c.now
	}
	return answers == c.was
}

func addrPort(ip []byte, port uint16) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port), ok
}
