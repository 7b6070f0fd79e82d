package announce

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
)

// Frames of Ethernet that carry ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861).

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpRequest = 1
	arpReply   = 2

	icmpv6      = 58
	solicit     = 135
	advertise   = 136
	sourceLink  = 1 // options: the link address of who sends,
	targetLink  = 2 // and of who is told of
	override    = 0x20
	headerEther = 14
	headerIPv6  = 40
	nobodysHops = 255 // what came through a router has less and is not believed
)

var (
	allOnLink = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
)

// gratuitous is what tells all on the link that an address is at mac: for IPv4 a request and a reply, for some hosts heed only one
// of them; for IPv6 an advertisement that overrides what was known.
func gratuitous(a netip.Addr, mac net.HardwareAddr) [][]byte {
	if a.Is4() {
		return [][]byte{
			arp(arpRequest, mac, a, make(net.HardwareAddr, 6), a),
			arp(arpReply, mac, a, mac, a),
		}
	}
	body := append([]byte{override, 0, 0, 0}, a.AsSlice()...)
	return [][]byte{discovery(advertise, mac, a, allNodes, append(body, option(targetLink, mac)...))}
}

// probe asks who answers for an address without claiming it. For IPv4 whoever asks needs no address at all. For IPv6 it needs one,
// from: without, the question would say «I am about to have this address», and whoever has it since a moment gives it up.
func probe(a netip.Addr, mac net.HardwareAddr, from netip.Addr) []byte {
	if a.Is4() {
		return arp(arpRequest, mac, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), a)
	}
	raw := a.As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: raw[13], 14: raw[14], 15: raw[15]})
	body := append(make([]byte, 4), a.AsSlice()...)
	return discovery(solicit, mac, from, group, append(body, option(sourceLink, mac)...))
}

// answered reads a frame as an answer: which address is at which mac. Anything else is no answer.
func answered(frame []byte) (netip.Addr, net.HardwareAddr, bool) {
	if len(frame) < headerEther {
		return netip.Addr{}, nil, false
	}
	body := frame[headerEther:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		ethernetIPv4 := []byte{0, 1, 0x08, 0, 6, 4}
		if len(body) < 28 || !bytes.Equal(body[:6], ethernetIPv4) {
			return netip.Addr{}, nil, false
		}
		// Any operation: a request from an address tells as well where that is.
		return netip.AddrFrom4([4]byte(body[14:18])), net.HardwareAddr(bytes.Clone(body[8:14])), true
	case etherIPv6:
		if len(body) < headerIPv6+24 || body[0]>>4 != 6 || body[6] != icmpv6 || body[7] != nobodysHops || body[headerIPv6] != advertise {
			return netip.Addr{}, nil, false
		}
		// Who sends is at the source of the frame, whatever the option says.
		return netip.AddrFrom16([16]byte(body[headerIPv6+8 : headerIPv6+24])), net.HardwareAddr(bytes.Clone(frame[6:12])), true
	}
	return netip.Addr{}, nil, false
}

func ether(to, from net.HardwareAddr, kind uint16, body []byte) []byte {
	f := append(append([]byte{}, to...), from...)
	return append(binary.BigEndian.AppendUint16(f, kind), body...)
}

// arp is a frame to all.
func arp(op uint16, fromMAC net.HardwareAddr, from netip.Addr, toMAC net.HardwareAddr, to netip.Addr) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 1, 0x08, 0, 6, 4}, op)
	b = append(append(b, fromMAC...), from.AsSlice()...)
	b = append(append(b, toMAC...), to.AsSlice()...)
	return ether(allOnLink, fromMAC, etherARP, b)
}

func option(kind byte, mac net.HardwareAddr) []byte { return append([]byte{kind, 1}, mac...) }

// discovery is a frame with a message of neighbour discovery to a multicast address.
func discovery(kind byte, mac net.HardwareAddr, from, to netip.Addr, body []byte) []byte {
	message := append([]byte{kind, 0, 0, 0}, body...)
	binary.BigEndian.PutUint16(message[2:], checksum(from, to, message))

	ip := []byte{0x60, 0, 0, 0}
	ip = binary.BigEndian.AppendUint16(ip, uint16(len(message)))
	ip = append(ip, icmpv6, nobodysHops)
	ip = append(append(ip, from.AsSlice()...), to.AsSlice()...)
	group := to.As16()
	return ether(net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}, mac, etherIPv6, append(ip, message...))
}

// checksum is ICMPv6's: over the addresses, the length, the protocol, and the message with its own sum still zero.
func checksum(from, to netip.Addr, message []byte) uint16 {
	b := append(from.AsSlice(), to.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	b = append(append(b, 0, 0, 0, icmpv6), message...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	var sum uint32
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
