package policy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kube-proxy/changes"
)

// tableName is the one table of this room, of the family inet.
const tableName = "network-policy"

// The sets and maps of the table. README.md tells what they are for. Those of
// addresses are there once a family, with its digit behind the name.
const (
	setSenders    = "senders"
	setReceivers  = "receivers"
	setPeers      = "peers"
	setSelf       = "self"
	setRights     = "rights"
	setPorts      = "ports"
	setPortRanges = "port-ranges"
)

// spanSets are the two maps of spans of addresses. One is asked; the other is
// filled when the spans change, and asked from then on.
var spanSets = [2]string{"blocks-a-", "blocks-b-"}

// A pair is the number of a group in the high bits and that of an identity in
// the low ones.
const (
	identityBits = 20
	lastIdentity = 1<<identityBits - 1
	lastGroup    = 1<<(32-identityBits) - 1
	identityMask = lastIdentity

	rightAll   = 1 // everything is open
	firstRight = 2
)

func pairKey(group, identity uint32) uint32 { return group<<identityBits | identity }

// verdictReturn is the value of a pod of this node that no policy isolates; all
// other verdicts are chains to go to.
const verdictReturn = "return"

// family is what differs between IPv4 and IPv6.
type family struct{ v6 bool }

// name tells a family's set or chain from the other family's.
func (f family) name(base string) string {
	if f.v6 {
		return base + "6"
	}
	return base + "4"
}

func (f family) addrLen() uint32 {
	if f.v6 {
		return 16
	}
	return 4
}

func (f family) addrType() nft.SetDatatype {
	if f.v6 {
		return nft.TypeIP6Addr
	}
	return nft.TypeIPAddr
}

func (f family) protocol() byte {
	if f.v6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// of finds the family's prefix among several; not valid: there is none.
func (f family) of(all []netip.Prefix) netip.Prefix {
	for _, p := range all {
		if p.Addr().Is6() == f.v6 {
			return p
		}
	}
	return netip.Prefix{}
}

// setSpec declares a set, or a map if it has a value.
type setSpec struct {
	name     string
	key      []nft.SetDatatype
	value    nft.SetDatatype // none: a set
	interval bool
}

// number is the type of all our numbers: what meta priority holds.
var number = nft.TypeClassID

// setSpecs is all sets and maps of the table.
func setSpecs() []setSpec {
	var out []setSpec
	for _, f := range families {
		a := f.addrType()
		out = append(out,
			setSpec{name: f.name(setSenders), key: []nft.SetDatatype{a}, value: nft.TypeVerdict},
			setSpec{name: f.name(setReceivers), key: []nft.SetDatatype{a}, value: nft.TypeVerdict},
			setSpec{name: f.name(setPeers), key: []nft.SetDatatype{a}, value: number},
			setSpec{name: f.name(setSelf), key: []nft.SetDatatype{a, a}},
			setSpec{name: f.name(spanSets[0]), key: []nft.SetDatatype{a}, value: number, interval: true},
			setSpec{name: f.name(spanSets[1]), key: []nft.SetDatatype{a}, value: number, interval: true})
	}
	ports := []nft.SetDatatype{number, nft.TypeInetProto, nft.TypeInetService}
	return append(out,
		setSpec{name: setRights, key: []nft.SetDatatype{number}, value: number},
		setSpec{name: setPorts, key: ports},
		setSpec{name: setPortRanges, key: ports, interval: true})
}

func (s setSpec) verdicts() bool { return s.value == nft.TypeVerdict }

// spans tells whether it is one of the maps of spans, which are written whole.
func (s setSpec) spans() bool { return s.interval && len(s.key) == 1 }

// set makes the library's form of a spec.
func (s setSpec) set(t *nft.Table) *nft.Set {
	out := &nft.Set{Table: t, Name: s.name, KeyType: s.key[0], Interval: s.interval}
	if len(s.key) > 1 {
		out.KeyType, out.Concatenation = nft.MustConcatSetType(s.key...), s.interval
	}
	if s.value != (nft.SetDatatype{}) {
		out.IsMap, out.DataType = true, s.value
	}
	return out
}

// element is one entry of a set or map. Key and value are the kernel's bytes; the
// key of a range is its two ends; the value of a map of verdicts is the name of
// the chain to go to, or verdictReturn.
type element struct {
	set, key, value string
}

// rangeKey is how long the key of a set of ranges is, of one end.
const rangeKey = 12

// join makes a key or value of fields: netip.Addr, changes.Protocol, uint16 for
// ports, uint32 for numbers. Every field takes whole registers of four bytes.
func join(fields ...any) string {
	var b []byte
	for _, f := range fields {
		switch v := f.(type) {
		case netip.Addr:
			b = append(b, v.AsSlice()...)
		case changes.Protocol:
			b = append(b, byte(v), 0, 0, 0)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, v)
			b = append(b, 0, 0)
		case uint32:
			b = append(b, binaryutil.NativeEndian.PutUint32(v)...)
		default:
			panic(fmt.Sprintf("policy: no field is a %T", f))
		}
	}
	return string(b)
}

// border is where a span begins or ends, as the kernel has it.
type border struct {
	at  string
	end bool
}

// spanElements are the borders of spans, and the numbers of those that begin.
func spanElements(all []placed) map[border]string {
	out := map[border]string{}
	for _, s := range all {
		out[border{at: join(s.lo)}] = join(s.identity.number)
		if next := s.hi.Next(); next.IsValid() {
			out[border{join(next), true}] = ""
		}
	}
	return out
}

// describe renders an element as a person reads it.
func (e element) describe() string {
	raw := e.key
	num := func(s string) uint32 { return binaryutil.NativeEndian.Uint32([]byte(s)) }
	port := func(s string) string {
		return fmt.Sprintf("%d . %s . %d", num(s), changes.Protocol(s[4]), binary.BigEndian.Uint16([]byte(s[8:])))
	}
	addr := func(s string) string {
		a, _ := netip.AddrFromSlice([]byte(s))
		return a.String()
	}
	switch {
	case strings.HasPrefix(e.set, setSelf):
		return e.set + " " + addr(raw[:len(raw)/2])
	case strings.HasPrefix(e.set, setPeers):
		return fmt.Sprintf("%s %s : %d", e.set, addr(raw), num(e.value))
	case e.set == setRights:
		return fmt.Sprintf("%s %d . %d : %d", e.set, num(raw)>>identityBits, num(raw)&identityMask, num(e.value))
	case e.set == setPorts:
		return e.set + " " + port(raw)
	case e.set == setPortRanges:
		return fmt.Sprintf("%s %s-%d", e.set, port(raw), binary.BigEndian.Uint16([]byte(raw[rangeKey+8:])))
	}
	return e.set + " " + addr(raw) + " : " + e.value
}
