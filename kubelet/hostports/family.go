package hostports

import (
	"encoding/binary"
	"net/netip"

	nft "github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// tableName is our table, in each family that has a host port.
const tableName = "kubelet-host-ports"

// The maps and the set of the table. All fields of a key or value take whole registers of four bytes.
const (
	mapNamed = "named"   // address, protocol, port → the pod's address, port
	mapAny   = "any"     // protocol, port → the pod's address, port
	setSelf  = "hairpin" // a pod's address, the same again
)

// family is what differs between IPv4 and IPv6.
type family struct {
	table       nft.TableFamily
	nat         uint32
	addrType    nft.SetDatatype
	addrLen     uint32
	words       uint32 // registers an address takes
	source      uint32 // offset of the source address in the network header
	destination uint32
}

func familyOf(v6 bool) family {
	if v6 {
		return family{nft.TableFamilyIPv6, unix.NFPROTO_IPV6, nft.TypeIP6Addr, 16, 4, 8, 24}
	}
	return family{nft.TableFamilyIPv4, unix.NFPROTO_IPV4, nft.TypeIPAddr, 4, 1, 12, 16}
}

func (f family) anywhere() netip.Addr {
	if f.words == 1 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func (f family) tableRef() *nft.Table { return &nft.Table{Name: tableName, Family: f.table} }

// sets are all maps and sets, in the order they are made.
func (f family) sets() []*nft.Set {
	to := nft.MustConcatSetType(f.addrType, nft.TypeInetService)
	return []*nft.Set{
		{Table: f.tableRef(), Name: mapNamed, IsMap: true, KeyType: nft.MustConcatSetType(f.addrType, nft.TypeInetProto, nft.TypeInetService), DataType: to},
		{Table: f.tableRef(), Name: mapAny, IsMap: true, KeyType: nft.MustConcatSetType(nft.TypeInetProto, nft.TypeInetService), DataType: to},
		{Table: f.tableRef(), Name: setSelf, KeyType: nft.MustConcatSetType(f.addrType, f.addrType)},
	}
}

// element is one entry of a map or set, in the kernel's bytes.
type element struct{ set, key, value, comment string }

// elements are what the kernel must hold for a book of this family.
func (f family) elements(b book) map[element]bool {
	out := map[element]bool{}
	for at, t := range b {
		e := element{set: mapNamed, key: addrBytes(at.addr), value: addrBytes(t.to.Addr()) + portBytes(t.to.Port()), comment: t.owner.comment()}
		if at.addr.IsUnspecified() {
			e.set, e.key = mapAny, ""
		}
		e.key += string([]byte{at.protocol, 0, 0, 0}) + portBytes(at.port)
		out[e] = true
		out[element{set: setSelf, key: addrBytes(t.to.Addr()) + addrBytes(t.to.Addr())}] = true
	}
	return out
}

// read is the entry of the book that an element of a map stands for; false for one that is not ours.
func (f family) read(e element) (front, target, bool) {
	addr, key := f.anywhere(), e.key
	if e.set == mapNamed && len(key) > int(f.addrLen) {
		addr, _ = netip.AddrFromSlice([]byte(key[:f.addrLen]))
		key = key[f.addrLen:]
	}
	if len(key) != 8 || len(e.value) != int(f.addrLen)+4 || e.comment == "" {
		return front{}, target{}, false
	}
	to, _ := netip.AddrFromSlice([]byte(e.value[:f.addrLen]))
	port := binary.BigEndian.Uint16([]byte(e.value[f.addrLen:]))
	return front{addr, key[0], binary.BigEndian.Uint16([]byte(key[4:]))}, target{netip.AddrPortFrom(to, port), ownerOf(e.comment)}, true
}

func addrBytes(a netip.Addr) string { return string(a.AsSlice()) }

func portBytes(p uint16) string { return string(append(binary.BigEndian.AppendUint16(nil, p), 0, 0)) }
