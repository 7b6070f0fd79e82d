package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kube-proxy/nfconn"
)

// The chains. README.md follows a packet through them.
const (
	chainForward = "forward"
	chainInput   = "input"
	chainEgress  = "egress"
	chainIngress = "ingress"
	chainIn      = "in"
	chainOut     = "out"
	chainWhoFrom = "who-sends"
	chainWhoTo   = "who-receives"
	chainJudge   = "judge"
	chainPorts   = "check-ports"
	chainDeny    = "deny"
)

// chainUnknown are, by direction, where packets of unknown pods end.
var chainUnknown = [2]string{"unknown-receives", "unknown-sends"}

// baseChains are where packets come in.
var baseChains = []struct {
	name string
	hook *nft.ChainHook
}{
	{chainForward, nft.ChainHookForward},
	{chainInput, nft.ChainHookInput},
}

// chain is a chain and its rules.
type chain struct {
	name  string
	rules []line
}

// line is one rule of a chain. The comment is for people; with a sum over the
// expressions it is stored in the rule, so a rule edited by hand is noticed.
type line struct {
	comment string
	exprs   []expr.Any
}

// stamp is the rule's user data: comment and sum.
func (l line) stamp() ([]byte, error) {
	return nfconn.Stamp(nft.TableFamilyINet, l.comment, l.exprs)
}

// gate is the chain of a group for packets of one family.
type gate struct {
	family
	direction
	number uint32
}

func gateOf(g *entry[*group], f family) gate { return gate{f, g.content.direction, g.number} }

// gates are a group's chains; one that there was no number for has none of its own.
func gates(g *entry[*group]) []string {
	if g.number == 0 {
		return nil
	}
	return []string{gateOf(g, families[0]).String(), gateOf(g, families[1]).String()}
}

func (g gate) String() string {
	return fmt.Sprintf("%s-%d", g.name([]string{chainIn, chainOut}[g.direction]), g.number)
}

// parseGate reads the name of a gate.
func parseGate(name string) (gate, bool) {
	base, number, _ := strings.Cut(name, "-")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n > lastGroup {
		return gate{}, false
	}
	for _, f := range families {
		switch base {
		case f.name(chainIn):
			return gate{f, ingress, uint32(n)}, true
		case f.name(chainOut):
			return gate{f, egress, uint32(n)}, true
		}
	}
	return gate{}, false
}

// chain finds out who the other is, and then has the pair judged.
func (g gate) chain() chain {
	who := g.name(chainWhoFrom)
	if g.direction == egress {
		who = g.name(chainWhoTo)
	}
	return chain{g.String(), []line{
		{"who is the other", nfconn.Seq(jump(who))},
		{"we are this group", nfconn.Seq(changeNote(^pairKey(g.number, 0), pairKey(g.number, 0)), goTo(chainJudge))},
	}}
}

// gateChains are the chains of gates by their names.
func gateChains(names []string) ([]chain, error) {
	var out []chain
	for _, name := range names {
		g, ok := parseGate(name)
		if !ok {
			return nil, fmt.Errorf("%s is no group's chain", name)
		}
		out = append(out, g.chain())
	}
	return out, nil
}

// fixedChains are all chains but those of groups: who goes to whom stands later.
func (r *ruleset) fixedChains() []chain {
	out := []chain{
		{chainForward, slices.Concat(known(), dispatch(chainEgress), dispatch(chainIngress))},
		{chainInput, slices.Concat(known(), neighbours(), dispatch(chainEgress))},
		{chainJudge, []line{
			{"what is open between these two", obey(setRights, chainPorts)},
			{"what is open to anyone", changeNote(^uint32(identityMask), 0)},
			{"", obey(setRights, chainPorts)},
			{"nothing", nfconn.Seq(goTo(chainDeny))},
		}},
		{chainPorts, []line{
			{"everything is open", nfconn.Seq(noteIs(rightAll), noteNumber(0), goBack())},
			{"the port is open", nfconn.Seq(portKey(), inSet(setPorts), noteNumber(0), goBack())},
			{"the port is in an open range", nfconn.Seq(portKey(), inSet(setPortRanges), noteNumber(0), goBack())},
			{"no", nfconn.Seq(goTo(chainDeny))},
		}},
	}
	var deny []line
	for i, f := range families {
		out = append(out,
			chain{f.name(chainEgress), []line{{"pods of this node that send", nfconn.Seq(f.loadSource(register), obeyVerdict(f.name(setSenders)))}}},
			chain{f.name(chainIngress), []line{{"pods of this node that receive", nfconn.Seq(f.loadDestination(register), obeyVerdict(f.name(setReceivers)))}}})
		if local := f.of(r.local); local.IsValid() {
			n := len(out)
			out[n-2].rules = append(out[n-2].rules, line{"a pod of this node that nobody knows yet", nfconn.Seq(f.inPrefix(f.loadSource, local), goTo(chainUnknown[egress]))})
			out[n-1].rules = append(out[n-1].rules, line{"a pod of this node that nobody knows yet", nfconn.Seq(f.inPrefix(f.loadDestination, local), goTo(chainUnknown[ingress]))})
		}
		spans := f.name(spanSets[r.active[i]])
		out = append(out,
			chain{f.name(chainWhoFrom), f.who(f.loadSource, spans)},
			chain{f.name(chainWhoTo), f.who(f.loadDestination, spans)})
		deny = append(deny, line{"a pod reaches itself", nfconn.Seq(f.only(), f.loadSource(register), f.loadDestination(register+f.words()), inSet(f.name(setSelf)), noteNumber(0), goBack())})
	}
	for _, f := range families { // for groups that there was no number for: closed
		out = append(out, gate{f, ingress, 0}.chain(), gate{f, egress, 0}.chain())
	}
	for d, name := range chainUnknown {
		c := chain{name: name}
		if r.closed[d] {
			c.rules = []line{{"held back", drop()}}
		}
		out = append(out, c)
	}
	return append(out, chain{chainDeny, append(deny, line{"dropped", drop()})})
}

// known lets go what belongs to a connection.
func known() []line {
	return []line{{"known connections go on", []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}}}
}

// neighbours lets pods find the node's link address, which is no traffic of theirs.
func neighbours() []line {
	const firstType, lastType = 130, 137 // multicast listeners, routers, neighbours, redirects
	return []line{{"pods find their router", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{unix.IPPROTO_ICMPV6}},
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: register, Data: []byte{firstType}},
		&expr.Cmp{Op: expr.CmpOpLte, Register: register, Data: []byte{lastType}},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}}}
}

// dispatch goes through the family's chain of that name.
func dispatch(to string) []line {
	var out []line
	for _, f := range families {
		out = append(out, line{"", nfconn.Seq(f.only(), jump(f.name(to)))})
	}
	return out
}

// who notes the identity of an address, or 0.
func (f family) who(load func(uint32) expr.Any, spans string) []line {
	return []line{
		{"a pod that some policy names", nfconn.Seq(load(register), get(f.name(setPeers)), note(), goBack())},
		{"an address in some block", nfconn.Seq(load(register), get(spans), note(), goBack())},
		{"nobody in particular", noteNumber(0)},
	}
}

// Between two rules a number rests in the packet's priority: a rule can use a
// number it has read only once, and the nft tool can't list more (see nftables).
// Nobody misses the priority: it is that of one packet, and is set to the default in the end.

const register = unix.NFT_REG32_00

func note() expr.Any {
	return &expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: register}
}

func noted() expr.Any { return &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: register} }

func noteNumber(n uint32) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: register, Data: binaryutil.NativeEndian.PutUint32(n)}, note()}
}

// changeNote changes bits of the number: those of the mask stay.
func changeNote(mask, xor uint32) []expr.Any {
	return []expr.Any{noted(), &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(xor)}, note()}
}

func noteIs(n uint32) []expr.Any {
	return []expr.Any{noted(), &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint32(n)}}
}

// obey puts another number, which the map has for this one, in its place and goes on there.
func obey(set, to string) []expr.Any {
	return nfconn.Seq(noted(), get(set), note(), goTo(to))
}

// portKey lays number, protocol and destination port into registers.
func portKey() []expr.Any {
	return []expr.Any{
		noted(),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register + 1},
		&expr.Payload{DestRegister: register + 2, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func inSet(name string) expr.Any { return &expr.Lookup{SourceRegister: register, SetName: name} }

func get(name string) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: name, DestRegister: register, IsDestRegSet: true}
}

func obeyVerdict(name string) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: name, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true}
}

func goTo(name string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: name} }
func goBack() expr.Any          { return &expr.Verdict{Kind: expr.VerdictReturn} }
func jump(name string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: name} }

func drop() []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

// only goes on for packets of the family.
func (f family) only() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{f.protocol()}}}
}

func (f family) words() uint32 { return f.addrLen() / 4 }

// source is where the source address is in the network header; the destination
// follows it.
func (f family) source() uint32 {
	if f.v6 {
		return 8
	}
	return 12
}

func (f family) loadSource(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: f.source(), Len: f.addrLen()}
}

func (f family) loadDestination(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: f.source() + f.addrLen(), Len: f.addrLen()}
}

// inPrefix goes on if an address is in the prefix.
func (f family) inPrefix(load func(uint32) expr.Any, p netip.Prefix) []expr.Any {
	ones := lastOf(netip.PrefixFrom(p.Addr(), 0))
	return []expr.Any{
		load(register),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: f.addrLen(), Mask: netip.PrefixFrom(ones, p.Bits()).Masked().Addr().AsSlice(), Xor: make([]byte, f.addrLen())},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: p.Masked().Addr().AsSlice()},
	}
}
