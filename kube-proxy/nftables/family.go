package nftables

import (
	"net/netip"

	nft "github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// family is what differs between IPv4 and IPv6.
type family struct {
	table       nft.TableFamily
	nat         uint32
	addrType    nft.SetDatatype
	addrLen     int
	all         int    // bits of an address
	source      uint32 // offset of the source address in the network header
	destination uint32
	anywhere    netip.Addr // stands for «any address of this node» in keys
	unreachable uint8      // ICMP code: port unreachable
	icmp        byte       // its protocol
	multicast   netip.Prefix
	words       uint32 // registers an address takes
}

func familyOf(v6 bool) family {
	if v6 {
		return family{
			table: nft.TableFamilyIPv6, nat: unix.NFPROTO_IPV6, addrType: nft.TypeIP6Addr, addrLen: 16, all: 128,
			source: 8, destination: 24, anywhere: netip.IPv6Unspecified(), unreachable: 4, icmp: unix.IPPROTO_ICMPV6, words: 4,
			multicast: netip.MustParsePrefix("ff00::/8"),
		}
	}
	return family{
		table: nft.TableFamilyIPv4, nat: unix.NFPROTO_IPV4, addrType: nft.TypeIPAddr, addrLen: 4, all: 32,
		source: 12, destination: 16, anywhere: netip.IPv4Unspecified(), unreachable: 3, icmp: unix.IPPROTO_ICMP, words: 1,
		multicast: netip.MustParsePrefix("224.0.0.0/4"),
	}
}
