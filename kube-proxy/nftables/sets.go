package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/binaryutil"

	"pilothouse.dev/kube-proxy/changes"
)

// tableName is the one table of kube-proxy, in each family it serves.
const tableName = "kube-proxy"

// The sets and maps of the table. README.md tells what they are for.
const (
	setServices  = "services"
	setWays      = "ways"
	setNodePorts = "node-ports"
	setEndpoints = "endpoints"
	setNodes     = "node-addresses"
	setClusters  = "cluster-ips"
	setHairpin   = "hairpin"
	setAffinity  = "affinity"
	setRanges    = "source-ranges"
	setSlots     = "slots"
)

// kind is the type of one field of a key or value; every field takes whole
// registers of four bytes.
type kind int

const (
	addr   kind = iota
	proto       // protocol number
	port        // port number
	number      // the number of an endpoint
	way         // how an endpoint is chosen: the number of a pick
	chain       // a verdict: goto that chain
)

// setSpec declares a set, or a map if it has a value.
type setSpec struct {
	name  string
	key   []kind
	value []kind
	// shared elements may be wanted by several services at once
	shared bool
	// filled by packets, not by us
	dynamic bool
	// the last field of a key is a range: keys hold the first and the last of all
	// that are meant, one behind the other
	ranges bool
}

// verdicts tells whether the values are chains to go to.
func (s setSpec) verdicts() bool { return len(s.value) == 1 && s.value[0] == chain }

// setSpecs is all sets and maps of the table, in the order they are made.
//
// Only ways has verdicts. Were they in services, the kernel would follow the
// verdict of every service each time one of them changes, to look for loops.
var setSpecs = []setSpec{
	{name: setWays, key: []kind{way}, value: []kind{chain}},
	{name: setServices, key: []kind{addr, proto, port}, value: []kind{way}},
	{name: setNodePorts, key: []kind{proto, port}, value: []kind{way}},
	{name: setEndpoints, key: []kind{addr, proto, port, number}, value: []kind{addr, port}},
	{name: setSlots, key: []kind{addr, proto, port, number}, value: []kind{number}},
	{name: setNodes, key: []kind{addr}},
	{name: setClusters, key: []kind{addr}, shared: true},
	{name: setHairpin, key: []kind{addr, addr}, shared: true},
	{name: setAffinity, key: []kind{addr, proto, port, addr}, value: []kind{number}, dynamic: true},
	{name: setRanges, key: []kind{addr, proto, port, addr}, ranges: true},
}

// affinitySize bounds how many clients are remembered; beyond it they are
// spread like others.
const affinitySize = 1 << 20

// specOf finds a declared set.
func specOf(name string) setSpec {
	for _, s := range setSpecs {
		if s.name == name {
			return s
		}
	}
	panic("nftables: no set " + name)
}

// datatype is the library's name for a list of fields.
func (f family) datatype(kinds []kind) nft.SetDatatype {
	var all []nft.SetDatatype
	for _, k := range kinds {
		switch k {
		case addr:
			all = append(all, f.addrType)
		case proto:
			all = append(all, nft.TypeInetProto)
		case port:
			all = append(all, nft.TypeInetService)
		case number, way:
			all = append(all, nft.TypeClassID) // what meta priority holds: four bytes, shown as two numbers
		case chain:
			return nft.TypeVerdict
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	return nft.MustConcatSetType(all...)
}

// set makes the library's form of a spec.
func (f family) set(t *nft.Table, s setSpec) *nft.Set {
	out := &nft.Set{Table: t, Name: s.name, KeyType: f.datatype(s.key)}
	if s.value != nil {
		out.IsMap, out.DataType = true, f.datatype(s.value)
	}
	if s.dynamic {
		out.Dynamic, out.HasTimeout, out.Size = true, true, affinitySize
	}
	if s.ranges {
		out.Interval, out.Concatenation = true, true
	}
	return out
}

// element is one entry of a set or map. Key and value are the kernel's bytes;
// the value of a map of verdicts is the name of the chain to go to.
type element struct {
	set, key, value string
}

// join makes a key or value of fields: netip.Addr, changes.Protocol, uint16 for
// ports, uint32 for numbers, and pick for ways.
func join(fields ...any) string {
	var room [64]byte // enough for each
	b := room[:0]
	for _, f := range fields {
		switch v := f.(type) {
		case netip.Addr:
			if v.Is4() {
				a := v.As4()
				b = append(b, a[:]...)
			} else {
				a := v.As16()
				b = append(b, a[:]...)
			}
		case changes.Protocol:
			b = append(b, byte(v), 0, 0, 0)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, v)
			b = append(b, 0, 0)
		case uint32:
			b = binary.NativeEndian.AppendUint32(b, v)
		case pick:
			b = binary.NativeEndian.AppendUint32(b, v.way())
		default:
			panic("nftables: no field is of such a type") // telling it would cost each field an allocation
		}
	}
	return string(b)
}

// describe renders an element as a person reads it.
func (e element) describe(f family) string {
	s := specOf(e.set)
	text := e.set + " " + f.fields(s.key, e.key)
	switch {
	case s.ranges:
		half := len(e.key) / 2
		last, _ := netip.AddrFromSlice([]byte(e.key[len(e.key)-f.addrLen:]))
		text = e.set + " " + f.fields(s.key, e.key[:half]) + "-" + last.String()
	case s.verdicts():
		text += " : goto " + e.value
	case s.value != nil:
		text += " : " + f.fields(s.value, e.value)
	}
	return text
}

func (f family) fields(kinds []kind, raw string) string {
	var out []string
	take := func(n int) []byte {
		b := []byte(raw[:n])
		raw = raw[n:]
		return b
	}
	for _, k := range kinds {
		switch k {
		case addr:
			a, _ := netip.AddrFromSlice(take(f.addrLen))
			out = append(out, a.String())
		case proto:
			out = append(out, changes.Protocol(take(4)[0]).String())
		case port:
			out = append(out, fmt.Sprint(binary.BigEndian.Uint16(take(4))))
		case number:
			n := binaryutil.NativeEndian.Uint32(take(4))
			if n >= localNumbers {
				out = append(out, fmt.Sprintf("local+%d", n-localNumbers))
			} else {
				out = append(out, fmt.Sprint(n))
			}
		case way:
			out = append(out, wayName(binaryutil.NativeEndian.Uint32(take(4))))
		case chain:
			out = append(out, raw)
		}
	}
	return strings.Join(out, " . ")
}
