package policy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kube-proxy/changes"
)

// packet opens a connection.
type packet struct {
	from, to netip.Addr
	proto    changes.Protocol // or unix.IPPROTO_ICMP
	port     uint16
	input    bool // it is for the node itself
}

func (p packet) String() string {
	return fmt.Sprintf("%s > %s %d/%d input %v", p.from, p.to, p.proto, p.port, p.input)
}

// machine runs a ruleset's chains over its elements as the kernel would.
type machine struct {
	chains   map[string][]line
	elements map[slot]string
	spans    map[string][]placed
}

func machineOf(r *ruleset) *machine {
	m := &machine{chains: map[string][]line{}, elements: r.content(), spans: map[string][]placed{}}
	all, err := r.allChains()
	if err != nil {
		panic(err)
	}
	for _, c := range all {
		m.chains[c.name] = c.rules
	}
	for i, f := range families {
		m.spans[f.name(spanSets[r.active[i]])] = r.spans[i]
	}
	return m
}

// accepts tells whether the packet goes on.
func (m *machine) accepts(p packet) bool {
	hook := chainForward
	if p.input {
		hook = chainInput
	}
	run := &run{machine: m, packet: p}
	return run.chain(hook) != expr.VerdictDrop
}

type run struct {
	*machine
	packet
	registers [64]byte
	priority  [4]byte
	depth     int
}

// past is no verdict: the chain has ended.
const past expr.VerdictKind = 100

func (r *run) chain(name string) expr.VerdictKind {
	rules, ok := r.chains[name]
	if !ok {
		panic("no chain " + name)
	}
	if r.depth++; r.depth > 16 {
		panic("too deep at " + name)
	}
	defer func() { r.depth-- }()
	for _, l := range rules {
		kind, to := r.line(l)
		switch kind {
		case expr.VerdictJump:
			if v := r.chain(to); v != past {
				return v
			}
		case expr.VerdictGoto:
			return r.chain(to)
		case expr.VerdictReturn:
			return past
		case expr.VerdictAccept, expr.VerdictDrop:
			return kind
		}
	}
	return past
}

func (r *run) reg(n uint32) []byte { return r.registers[(n-register)*4:] }

// line runs one rule: registers begin empty.
func (r *run) line(l line) (expr.VerdictKind, string) {
	r.registers = [64]byte{}
	for _, e := range l.exprs {
		switch x := e.(type) {
		case *expr.Ct:
			copy(r.reg(x.Register), binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW))
		case *expr.Meta:
			if !r.meta(x) {
				return past, ""
			}
		case *expr.Payload:
			copy(r.reg(x.DestRegister), r.payload(x))
		case *expr.Immediate:
			copy(r.reg(x.Register), x.Data)
		case *expr.Bitwise:
			for i := range x.Len {
				r.reg(x.DestRegister)[i] = r.reg(x.SourceRegister)[i]&x.Mask[i] ^ x.Xor[i]
			}
		case *expr.Cmp:
			c := bytes.Compare(r.reg(x.Register)[:len(x.Data)], x.Data)
			if ok := map[expr.CmpOp]bool{expr.CmpOpEq: c == 0, expr.CmpOpNeq: c != 0, expr.CmpOpGte: c >= 0, expr.CmpOpLte: c <= 0}[x.Op]; !ok {
				return past, ""
			}
		case *expr.Counter:
		case *expr.Lookup:
			v, ok := r.lookup(x.SetName, x.SourceRegister)
			switch {
			case !ok:
				return past, ""
			case !x.IsDestRegSet:
			case x.DestRegister != unix.NFT_REG_VERDICT:
				copy(r.reg(x.DestRegister), v)
			case v == verdictReturn:
				return expr.VerdictReturn, ""
			default:
				return expr.VerdictGoto, v
			}
		case *expr.Verdict:
			return x.Kind, x.Chain
		default:
			panic(fmt.Sprintf("what is a %T", e))
		}
	}
	return past, ""
}

func (r *run) meta(x *expr.Meta) bool {
	at := r.reg(x.Register)
	switch {
	case x.Key == expr.MetaKeyPRIORITY && x.SourceRegister:
		copy(r.priority[:], at)
	case x.Key == expr.MetaKeyPRIORITY:
		copy(at, r.priority[:])
	case x.Key == expr.MetaKeyL4PROTO:
		at[0] = byte(r.proto)
	case x.Key == expr.MetaKeyNFPROTO:
		at[0] = familyOf(r.from).protocol()
	default:
		panic(fmt.Sprintf("what is meta %v", x.Key))
	}
	return true
}

func (r *run) payload(x *expr.Payload) []byte {
	f := familyOf(r.from)
	switch {
	case x.Base == expr.PayloadBaseTransportHeader && x.Offset == 2:
		return binary.BigEndian.AppendUint16(nil, r.port)
	case x.Base == expr.PayloadBaseTransportHeader && x.Offset == 0:
		return []byte{128} // an echo request, if it is ICMP
	case x.Offset == f.source() && x.Len == f.addrLen():
		return r.from.AsSlice()
	case x.Offset == f.source()+f.addrLen() && x.Len == f.addrLen():
		return r.to.AsSlice()
	}
	panic(fmt.Sprintf("what is payload %+v", x))
}

func (r *run) lookup(set string, reg uint32) (string, bool) {
	for _, s := range setSpecs() {
		if s.name != set {
			continue
		}
		n := uint32(0)
		for _, k := range s.key {
			n += (k.Bytes + 3) / 4 * 4
		}
		key := string(r.reg(reg)[:n])
		switch {
		case s.spans():
			a, _ := netip.AddrFromSlice([]byte(key))
			for _, sp := range r.spans[set] {
				if sp.lo.Compare(a) <= 0 && sp.hi.Compare(a) >= 0 {
					return join(sp.identity.number), true
				}
			}
			return "", false
		case s.interval:
			for k := range r.elements {
				if k.set == set && k.key[:8] == key[:8] && strings.Compare(k.key[8:10], key[8:10]) <= 0 && strings.Compare(k.key[rangeKey+8:rangeKey+10], key[8:10]) >= 0 {
					return "", true
				}
			}
			return "", false
		}
		v, ok := r.elements[slot{set, key}]
		return v, ok
	}
	panic("no set " + set)
}
