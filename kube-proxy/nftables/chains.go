package nftables

import (
	"net/netip"

	nft "github.com/google/nftables"

	"pilothouse.dev/kube-proxy/nfconn"
)

// Config is what the rules need to know besides services.
type Config struct {
	V6 bool // the IPv6 table instead of the IPv4 one

	// PodCIDR is the range of all pods of the cluster. Who calls a service from
	// outside it is masqueraded; unset: nobody can be told apart, nobody is.
	PodCIDR netip.Prefix
	// MasqueradeAll masquerades every call of a service.
	MasqueradeAll bool
	// MasqueradeEgress gives what leaves PodCIDR the node's address.
	MasqueradeEgress bool
	// MasqueradeNeighbours gives a pod that calls a pod of this node through a
	// service the node's address: for bridges that BridgesEscape.
	MasqueradeNeighbours bool
	// MasqueradeBit is the bit of the packet mark that asks for masquerading.
	MasqueradeBit uint8
	// Balancers are the ranges of load balancer addresses that nodes answer for.
	// Such an address is one of the node's own, and so leads to whatever listens
	// on all of them: ports that no service has there are refused.
	Balancers []netip.Prefix
}

func (c Config) mark() uint32 { return 1 << c.MasqueradeBit }

// The chains every table has. Those that choose an endpoint come and go with
// the counts of endpoints in use; see picks.go.
const (
	chainPrerouting  = "prerouting"
	chainOutput      = "output"
	chainForward     = "forward"
	chainPostrouting = "postrouting"
	chainDispatch    = "dispatch"
	chainRefuse      = "refuse"
	chainNobodyHere  = "no-local-endpoints"
	chainMasquerade  = "masquerade"
)

// baseChain is where the kernel hands packets in. Chains of type nat see the first
// packet of a connection and no other.
type baseChain struct {
	name     string
	kind     nft.ChainType
	hook     *nft.ChainHook
	priority *nft.ChainPriority
}

// baseChains are the table's doors.
func baseChains() []baseChain {
	return []baseChain{
		{chainPrerouting, nft.ChainTypeNAT, nft.ChainHookPrerouting, nft.ChainPriorityNATDest},
		{chainOutput, nft.ChainTypeNAT, nft.ChainHookOutput, nft.ChainPriorityNATDest},
		{chainForward, nft.ChainTypeFilter, nft.ChainHookForward, nft.ChainPriorityFilter},
		{chainPostrouting, nft.ChainTypeNAT, nft.ChainHookPostrouting, nft.ChainPriorityNATSource},
	}
}

// fixedChain is a chain whose rules never change while the daemon runs.
type fixedChain struct {
	name  string
	rules []rule
}

// fixedChains are the rules in the order a packet meets them. All but those of
// forward are for packets that open a connection.
func fixedChains(c Config, f family) []fixedChain {
	const tcp, udp = 6, 17
	return []fixedChain{
		{chainPrerouting, append([]rule{
			{"arriving: is it for a service", nfconn.Seq(jump(chainDispatch))},
		}, balancers(c, f)...)},
		{chainOutput, []rule{
			{"from this machine: is it for a service", nfconn.Seq(jump(chainDispatch))},
		}},
		{chainDispatch, []rule{
			{"cluster and external addresses", nfconn.Seq(f.loadDestination(register), f.loadPort(register+f.words), obeyWay(setServices))},
			{"node ports", nfconn.Seq(f.loadDestination(register), inSet(setNodes), f.loadPort(register), obeyWay(setNodePorts))},
			{"a port that the service has not", nfconn.Seq(f.loadDestination(register), inSet(setClusters), goTo(chainRefuse))},
		}},
		{chainRefuse, []rule{
			{"tcp hears at once", nfconn.Seq(protocolIs(tcp), reset())},
			{"all others too", nfconn.Seq(f.refuse())},
		}},
		{chainNobodyHere, []rule{
			{"a policy says Local and nobody here answers", nfconn.Seq(drop())},
		}},
		{chainMasquerade, []rule{
			{"two datagrams sent at once get the same port", nfconn.Seq(protocolIs(udp), masqueradeKeepingPort())},
			{"all others any port", nfconn.Seq(masquerade())},
		}},
		{chainForward, forward(c, f)},
		{chainPostrouting, postrouting(c, f)},
	}
}

// balancers refuse what comes for a load balancer address and not for a service
// there; a ping is answered. A node's address stays one where the ranges have it, too.
// What a process of this machine sends is none of it: a reset from the address to
// the address would come by here as well, and never arrive.
func balancers(c Config, f family) []rule {
	var rules []rule
	for _, p := range c.Balancers {
		if p.Addr().Is6() == c.V6 {
			rules = append(rules, rule{"a load balancer address, and a port that no service has", nfconn.Seq(
				f.inPrefix(f.loadDestination, p, true), f.loadDestination(register), notInSet(setNodes), protocolIsNot(f.icmp), goTo(chainRefuse))})
		}
	}
	return rules
}

// forward holds back what the connection table cannot place. Its addresses are
// not replaced: a late answer of an endpoint would reach the client from an
// address it never called, the client would answer with a reset, and a good
// connection would end.
func forward(c Config, f family) []rule {
	if !c.PodCIDR.IsValid() {
		return nil
	}
	return []rule{{"from a pod, and of no connection", nfconn.Seq(invalid(), f.inPrefix(f.loadSource, c.PodCIDR, true), drop())}}
}

// postrouting says whose source address is replaced with the node's.
func postrouting(c Config, f family) []rule {
	rules := []rule{
		{"marked on the way in", nfconn.Seq(hasMark(c.mark()), setMark(c.mark(), 0), goTo(chainMasquerade))},
		{"hairpin: a pod reaches itself through a service", nfconn.Seq(f.loadSource(register), f.loadDestination(register+f.words), inSet(setHairpin), goTo(chainMasquerade))},
	}
	if c.MasqueradeNeighbours {
		rules = append(rules, rule{"through a service to a pod of this node: the answer would go past us", nfconn.Seq(
			redirected(), f.loadDestination(register), f.loadDestination(register+f.words), inSet(setHairpin), goTo(chainMasquerade))})
	}
	if c.MasqueradeEgress && c.PodCIDR.IsValid() {
		rules = append(rules, rule{"from a pod to outside the cluster", nfconn.Seq(
			f.inPrefix(f.loadSource, c.PodCIDR, true),
			f.inPrefix(f.loadDestination, c.PodCIDR, false),
			f.inPrefix(f.loadDestination, f.multicast, false),
			goTo(chainMasquerade),
		)})
	}
	return rules
}
