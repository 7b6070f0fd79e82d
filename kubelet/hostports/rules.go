package hostports

import (
	"fmt"
	"hash/fnv"

	nft "github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// chainPorts is where packets for the node look for a pod.
const chainPorts = "ports"

// chain is one of the table's; hook is nil where packets come only from another.
type chain struct {
	name     string
	kind     nft.ChainType
	hook     *nft.ChainHook
	priority *nft.ChainPriority
	rules    []rule
}

// rule has a comment for people. With a sum over the expressions it is stored in the rule, so one edited by hand is noticed.
type rule struct {
	comment string
	exprs   []expr.Any
}

// By how much ours come behind and before kube-proxy's, which are at the usual priorities. What a Service's address leads to is asked first: a load
// balancer's address is one of the node's own while this node answers for it, and an external address may be.
const (
	behind = 10
	before = 10
)

// chains are the same whatever ports there are. Those of type nat see the first packet of a connection and no other.
func (f family) chains() []chain {
	dest, source := *nft.ChainPriorityNATDest+behind, *nft.ChainPriorityNATSource-before
	out := []chain{
		{name: chainPorts, rules: []rule{
			{"an address of the node that a pod asked for", seq(f.load(f.destination, register), loadPort(register+f.words), f.lead(mapNamed))},
			{"any address of the node", seq(loadPort(register), f.lead(mapAny))},
		}},
		{"prerouting", nft.ChainTypeNAT, nft.ChainHookPrerouting, &dest, []rule{{"arriving, for this node", seq(local(false), jump(chainPorts))}}},
		{"output", nft.ChainTypeNAT, nft.ChainHookOutput, &dest, []rule{{"from this node, for itself", seq(f.forwardable(), local(false), jump(chainPorts))}}},
		{"postrouting", nft.ChainTypeNAT, nft.ChainHookPostrouting, &source, []rule{
			{"hairpin: a pod calls its own host port", seq(redirected(), f.load(f.source, register), f.load(f.destination, register+f.words), in(setSelf), masquerade())},
			{"the node itself calls", seq(redirected(), local(true), f.load(f.destination, register), f.load(f.destination, register+f.words), in(setSelf), masquerade())},
		}},
	}
	if f.words == 1 {
		out = append(out, chain{"guard", nft.ChainTypeFilter, nft.ChainHookPrerouting, nft.ChainPriorityRaw, []rule{
			{"loopback addresses are this node's own: see route_localnet", seq(
				&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: register},
				&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: binaryutil.NativeEndian.PutUint16(unix.ARPHRD_LOOPBACK)},
				f.load(f.destination, register),
				&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: []byte{255, 0, 0, 0}, Xor: make([]byte, 4)},
				&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{127, 0, 0, 0}},
				&expr.Verdict{Kind: expr.VerdictDrop},
			)},
		}})
	}
	return out
}

// stamp is the rule's user data: comment and sum.
func (r rule) stamp(f family) ([]byte, error) {
	sum := fnv.New32a()
	for _, e := range r.exprs {
		b, err := expr.Marshal(byte(f.table), e)
		if err != nil {
			return nil, fmt.Errorf("encoding the rule %q: %w", r.comment, err)
		}
		_, _ = sum.Write(b) // a hash takes everything
	}
	return userdata.AppendString(nil, userdata.TypeComment, fmt.Sprintf("%s #%08x", r.comment, sum.Sum32())), nil
}

// register is the first of a rule's sixteen, four bytes each. A key is laid from it on; where a port leads to is read behind the longest key.
const register = unix.NFT_REG32_00

func (f family) found() uint32 { return register + f.words + 2 }

// load puts an address of the packet into a register.
func (f family) load(offset, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.addrLen}
}

// loadPort puts protocol and destination port into two registers.
func loadPort(reg uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// lead sends the connection where the map says; who is not in it goes on.
func (f family) lead(name string) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: register, SetName: name, DestRegister: f.found(), IsDestRegSet: true},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.nat, RegAddrMin: f.found(), RegProtoMin: f.found() + f.words},
	}
}

// forwardable leaves out what comes from ::1: the kernel does not forward that, and the caller would wait for nothing. (It may call ::1 from another
// address of the node.)
func (f family) forwardable() []expr.Any {
	if f.words == 1 {
		return nil
	}
	loopback := make([]byte, 16)
	loopback[15] = 1
	return []expr.Any{f.load(f.source, register), &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: loopback}}
}

// local goes on if the packet's destination, or its source, is an address of this machine.
func local(source bool) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: register, ResultADDRTYPE: true, FlagSADDR: source, FlagDADDR: !source},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// redirected goes on if the connection's destination was replaced.
func redirected() []expr.Any {
	const destinationReplaced = 1 << 5 // IPS_DST_NAT
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(destinationReplaced), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
	}
}

func in(set string) expr.Any  { return &expr.Lookup{SourceRegister: register, SetName: set} }
func jump(to string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: to} }
func masquerade() expr.Any    { return &expr.Masq{FullyRandom: true} }

// seq joins expressions and lists of them.
func seq(parts ...any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		switch v := p.(type) {
		case []expr.Any:
			out = append(out, v...)
		case expr.Any:
			out = append(out, v)
		}
	}
	return out
}
