package nftables

import (
	"net/netip"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kube-proxy/nfconn"
)

// rule is one rule of a chain. The comment is for people; with a sum over the
// expressions it is stored in the rule, so a rule edited by hand is noticed.
type rule struct {
	comment string
	exprs   []expr.Any
}

// stamp is the rule's user data: comment and sum.
func (r rule) stamp(f family) ([]byte, error) {
	return nfconn.Stamp(f.table, r.comment, r.exprs)
}

// The registers of a rule, four bytes each. A key is laid from the first one on:
// address, protocol, port, and what follows them (a number, the client, an
// endpoint). A chosen endpoint lies at the end. IPv6 takes all sixteen.
const register = unix.NFT_REG32_00

func (f family) afterFront() uint32 { return register + f.words + 2 }
func (f family) chosen() uint32     { return register + f.words*2 + 3 }
func (f family) chosenPort() uint32 { return f.chosen() + f.words }
func (f family) mask(bits int) []byte {
	return netip.PrefixFrom(f.ones(), bits).Masked().Addr().AsSlice()
}

func (f family) ones() netip.Addr {
	b := make([]byte, f.addrLen)
	for i := range b {
		b[i] = 0xff
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// loadSource puts the client's address into a register.
func (f family) loadSource(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: f.source, Len: uint32(f.addrLen)}
}

// loadDestination puts the address the packet goes to into a register.
func (f family) loadDestination(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: f.destination, Len: uint32(f.addrLen)}
}

// loadPort puts protocol and destination port into two registers.
func (f family) loadPort(reg uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// loadSourcePort puts the client's port into a register.
func (f family) loadSourcePort(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}
}

// inPrefix goes on if an address is in the prefix, or if it is not.
func (f family) inPrefix(load func(uint32) expr.Any, p netip.Prefix, in bool) []expr.Any {
	op := expr.CmpOpEq
	if !in {
		op = expr.CmpOpNeq
	}
	return []expr.Any{
		load(register),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(f.addrLen), Mask: f.mask(p.Bits()), Xor: make([]byte, f.addrLen)},
		&expr.Cmp{Op: op, Register: register, Data: p.Masked().Addr().AsSlice()},
	}
}

// notInSet goes on if the key in the registers is not in the set.
func notInSet(name string) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: name, Invert: true}
}

// inSet goes on if the key in the registers is in the set.
func inSet(name string) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: name}
}

// get reads a map by the key in the registers.
func get(name string, into uint32) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: name, DestRegister: into, IsDestRegSet: true}
}

// Between two steps a number rests in the packet's priority: what is read from
// one map and is the key of the next, or is written to another, is more than the
// nft tool can list (1.0.6 ends with a failed assertion), and it can list this.
// Nobody misses the priority: it is that of one packet, a forwarded one gets a
// new one, and forget sets it to the default.

// note puts the number in a register away.
func note(reg uint32) expr.Any {
	return &expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: reg}
}

// noted takes the number back.
func noted(reg uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: reg} }

// forget leaves no number behind.
func forget() []expr.Any {
	return []expr.Any{&expr.Immediate{Register: register, Data: make([]byte, 4)}, note(register)}
}

// obeyWay reads the way of the service whose key is in the registers and goes to
// its chain.
func obeyWay(services string) []expr.Any {
	return []expr.Any{get(services, register), note(register), noted(register), get(setWays, unix.NFT_REG_VERDICT)}
}

// setMark changes the bits of mask in the packet's mark.
func setMark(mask, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(^mask), Xor: binaryutil.NativeEndian.PutUint32(bits)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register},
	}
}

// hasMark goes on if the bit is set in the packet's mark.
func hasMark(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
	}
}

// protocolIs goes on if the packet is of the protocol.
func protocolIs(p byte) []expr.Any { return protocol(expr.CmpOpEq, p) }

// protocolIsNot goes on if it is of another.
func protocolIsNot(p byte) []expr.Any { return protocol(expr.CmpOpNeq, p) }

func protocol(op expr.CmpOp, p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: op, Register: register, Data: []byte{p}},
	}
}

// sourceIsLocal goes on if the packet comes from an address of this machine.
func sourceIsLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: register, ResultADDRTYPE: true, FlagSADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// redirected goes on if the connection's destination was replaced.
func redirected() []expr.Any {
	const destinationReplaced = 1 << 5 // IPS_DST_NAT
	return connection(expr.CtKeySTATUS, destinationReplaced)
}

// invalid goes on if the packet belongs to no connection and opens none.
func invalid() []expr.Any { return connection(expr.CtKeySTATE, expr.CtStateBitINVALID) }

// connection goes on if what the connection table says has the bit.
func connection(key expr.CtKey, bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
	}
}

// remember writes the client in the registers and the number behind it into the
// affinity map, or renews it if it is there.
func (f family) remember(timeout time.Duration) expr.Any {
	return &expr.Dynset{SrcRegKey: register, SrcRegData: f.chosen(), SetName: setAffinity, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: timeout}
}

// disown drops the client from the affinity map, for remember would renew what
// is there. The kernel wants to be told a value and does not look at it.
func (f family) disown() expr.Any {
	const dynsetDelete = 2 // NFT_DYNSET_OP_DELETE, which x/sys does not name
	return &expr.Dynset{SrcRegKey: register, SrcRegData: f.chosen(), SetName: setAffinity, Operation: dynsetDelete}
}

// toChosen sends the connection to the endpoint in the registers.
func (f family) toChosen() expr.Any {
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: f.nat, RegAddrMin: f.chosen(), RegProtoMin: f.chosenPort()}
}

// masquerade gives the connection the node's address and any free port. Clients
// with the same port must not be given the same one in the same moment.
func masquerade() expr.Any { return &expr.Masq{FullyRandom: true} }

// masqueradeKeepingPort gives the node's address and, if it is free, the client's
// own port: two datagrams sent at once make the same choice.
func masqueradeKeepingPort() expr.Any { return &expr.Masq{} }

func jump(to string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: to} }
func goTo(to string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: to} }
func drop() expr.Any          { return &expr.Verdict{Kind: expr.VerdictDrop} }
func reset() expr.Any         { return &expr.Reject{Type: unix.NFT_REJECT_TCP_RST} }
func (f family) refuse() expr.Any {
	return &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: f.unreachable}
}
