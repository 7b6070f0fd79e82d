package announce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// place is an address on a link.
type place struct {
	addr netip.Addr
	link int
}

// announce tells everybody on the links that these addresses are here.
func (k kernel) announce(places []place) error {
	return k.do(func() error {
		var errs []error
		for _, p := range places {
			errs = append(errs, withSocket(p, false, func(s *packets) error {
				for _, frame := range gratuitous(p.addr, s.mac) {
					if err := s.send(frame); err != nil {
						return fmt.Errorf("announcing %s: %w", p.addr, err)
					}
					gratuitousSent.Inc()
				}
				return nil
			}))
		}
		return errors.Join(errs...)
	})
}

// elsewhere asks on the links whether anybody else answers for these addresses, and returns those for which somebody does within
// the time, or as soon as all are answered.
func (k kernel) elsewhere(places []place, within time.Duration) (map[netip.Addr]bool, error) {
	found := map[netip.Addr]bool{}
	err := k.do(func() error {
		type group struct {
			link int
			v4   bool
		}
		asked := map[group][]place{}
		for _, p := range places {
			g := group{p.link, p.addr.Is4()}
			asked[g] = append(asked[g], p)
		}
		var errs []error
		for _, those := range asked {
			errs = append(errs, withSocket(those[0], true, func(s *packets) error { return s.ask(those, within, found) }))
		}
		return errors.Join(errs...)
	})
	return found, err
}

// packets is an open packet socket on one link.
type packets struct {
	fd   int
	link int
	mac  net.HardwareAddr
	from netip.Addr // of one that listens for IPv6's answers: an address on the link to ask from
}

// withSocket opens one for frames of an address's family, and closes it again. One that listens hears answers only.
func withSocket(p place, listens bool, use func(*packets) error) error {
	link, err := net.InterfaceByIndex(p.link)
	if err != nil {
		return fmt.Errorf("finding the link of %s: %w", p.addr, err)
	}
	if len(link.HardwareAddr) != 6 {
		return fmt.Errorf("%s cannot be announced on %s: it is no Ethernet link", p.addr, link.Name)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a packet socket: %w", err)
	}
	defer unix.Close(fd)
	kind := uint16(etherARP)
	if p.addr.Is6() {
		kind = etherIPv6
	}
	if listens {
		if kind == etherIPv6 {
			if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, advertisementsOnly()); err != nil {
				return fmt.Errorf("choosing what a packet socket hears: %w", err)
			}
		}
		at := &unix.SockaddrLinklayer{Protocol: swap(kind), Ifindex: p.link}
		if err := unix.Bind(fd, at); err != nil {
			return fmt.Errorf("binding a packet socket to %s: %w", link.Name, err)
		}
	}
	s := &packets{fd: fd, link: p.link, mac: link.HardwareAddr}
	if listens && kind == etherIPv6 {
		if s.from, err = sourceOn(p.link); err != nil {
			return err
		}
	}
	return use(s)
}

// sourceOn is an IPv6 address of this machine's on a link that it asks from: the link-local one if there is.
func sourceOn(link int) (netip.Addr, error) {
	all, err := dump()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("listing the machine's addresses: %w", err)
	}
	var found netip.Addr
	for _, have := range all {
		a := have.prefix.Addr()
		if have.link == link && !have.ours && a.Is6() && (!found.IsValid() || a.IsLinkLocalUnicast()) {
			found = a
		}
	}
	if !found.IsValid() {
		return found, fmt.Errorf("link %d has no IPv6 address to ask from", link)
	}
	return found, nil
}

// send puts a whole frame on the link.
func (s *packets) send(frame []byte) error {
	to := &unix.SockaddrLinklayer{Ifindex: s.link, Halen: 6, Protocol: swap(uint16(frame[12])<<8 | uint16(frame[13]))}
	copy(to.Addr[:], frame[:6])
	return unix.Sendto(s.fd, frame, 0, to)
}

// ask sends a probe for each address and collects those that others answer for.
func (s *packets) ask(places []place, within time.Duration, found map[netip.Addr]bool) error {
	open := map[netip.Addr]bool{}
	for _, p := range places {
		open[p.addr] = true
		if err := s.send(probe(p.addr, s.mac, s.from)); err != nil {
			return fmt.Errorf("asking who has %s: %w", p.addr, err)
		}
	}
	frame := make([]byte, 2048)
	for end := time.Now().Add(within); len(open) > 0; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for an answer: %w", err)
		}
		if n <= 0 {
			continue
		}
		got, _, err := unix.Recvfrom(s.fd, frame, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading an answer: %w", err)
		}
		if a, mac, ok := answered(frame[:got]); ok && open[a] && !bytes.Equal(mac, s.mac) {
			found[a] = true
			delete(open, a)
		}
	}
	return nil
}

// advertisementsOnly lets through what may be a neighbour advertisement: next header ICMPv6, and its type.
func advertisementsOnly() *unix.SockFprog {
	const load, equal, give = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	program := []unix.SockFilter{
		{Code: load, K: headerEther + 6},
		{Code: equal, K: icmpv6, Jf: 3},
		{Code: load, K: headerEther + headerIPv6},
		{Code: equal, K: advertise, Jf: 1},
		{Code: give, K: 2048},
		{Code: give, K: 0},
	}
	return &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
}

// swap is a protocol's number as the kernel wants it: in the network's order.
func swap(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }
