package nftables

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kube-proxy/nfconn"
)

// front is how a client names a service.
type front uint32

const (
	frontNone       front = iota // nobody answers anywhere: refused
	frontNobodyHere              // a policy says Local, and nobody answers here: dropped
	frontCluster                 // cluster IP
	frontExternal                // external and load balancer addresses
	frontNode                    // node port
)

func (f front) String() string {
	return [...]string{chainRefuse, chainNobodyHere, "cluster", "external", "node"}[f]
}

// localNumbers is where the numbers of this node's endpoints begin, for services
// with a policy Local. All endpoints are numbered from 0.
const localNumbers = 1 << 24

// pick is a way to choose an endpoint. It has a chain, shared by all services that
// have as many endpoints and choose alike. A chain once made stays: to bind a
// rule to the map of endpoints the kernel walks all of the map, so a service that
// goes from four endpoints to five and back must not cost that each time.
type pick struct {
	front  front
	keep   bool          // the client keeps its address if it is a pod
	local  bool          // only endpoints of this node
	count  int           // endpoints anywhere
	locals int           // endpoints of this node
	sticky time.Duration // 0: each connection anew
	hashed bool          // by a sum over the client's address and port, not at random
	ranged bool          // only callers from the service's source ranges
}

// plain leaves away what makes no difference, so that what chooses alike is equal.
func (p pick) plain() pick {
	switch {
	case p.count == 0 && (!p.local || p.locals == 0):
		return pick{front: frontNone}
	case !p.local:
		p.locals = 0
		p.hashed = p.hashed && p.count > 1
	case p.front == frontCluster && p.locals == 0:
		return pick{front: frontNobodyHere}
	case p.front == frontCluster:
		p.count = 0
		p.hashed = p.hashed && p.locals > 1
	}
	return p
}

// fixed tells whether the pick's chain is always there.
func (p pick) fixed() bool { return p.front == frontNone || p.front == frontNobodyHere }

// chain is the name of the chain that picks like this.
func (p pick) chain() string {
	b := p.front.String()
	if p.fixed() {
		return b
	}
	if p.keep {
		b += "-keep"
	}
	if p.ranged {
		b += "-ranged"
	}
	if p.hashed {
		b += "-udp"
	}
	if p.local {
		b += fmt.Sprintf("-local-%d", p.locals)
		if p.front != frontCluster {
			b += fmt.Sprintf("-of-%d", p.count)
		}
	} else {
		b += fmt.Sprintf("-%d", p.count)
	}
	if p.sticky > 0 {
		b += fmt.Sprintf("-sticky-%d", p.sticky/time.Second)
	}
	return b
}

// A way is a pick's number in the maps. Usual ones spell the pick: the front in
// the upper half, the count in the lower. All others are a sum over the name of
// their chain, with the highest bit set.
const (
	wayOther  = 1 << 31
	wayHashed = 1 << 20
)

func (p pick) way() uint32 {
	switch usual := (pick{front: p.front, count: p.count}); {
	case p.count >= 1<<16:
	case p == usual:
		return uint32(p.front)<<16 | uint32(p.count)
	case p == pick{front: p.front, count: p.count, hashed: true}:
		return wayHashed | uint32(p.front)<<16 | uint32(p.count)
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(p.chain())) // a hash takes everything
	return sum.Sum32() | wayOther
}

// wayName tells a way to a person.
func wayName(w uint32) string {
	if w&wayOther != 0 {
		return fmt.Sprintf("%x:%x", w>>16, w&0xffff)
	}
	return pick{front: front(w >> 16 & 0xf), count: int(w & 0xffff), hashed: w&wayHashed != 0}.chain()
}

// entry is the element that leads to the pick's chain.
func (p pick) entry() element { return element{setWays, join(p), p.chain()} }

func comparePicks(a, b pick) int { return strings.Compare(a.chain(), b.chain()) }

// anywhere is the pick for those clients of a Local service that may go to any
// endpoint: pods and processes of this node.
func (p pick) anywhere() pick {
	return pick{front: p.front, keep: true, count: p.count, sticky: p.sticky, hashed: p.hashed}.plain()
}

// needs are the picks whose chains the rules of this one go to.
func (p pick) needs() []pick {
	if p.local && p.front != frontCluster {
		return []pick{p.anywhere()}
	}
	return nil
}

// usualPicks are those whose chains are made before the map has any element,
// when that costs nothing.
func usualPicks() []pick {
	out := []pick{{front: frontNone}, {front: frontNobodyHere}}
	for _, fr := range []front{frontCluster, frontNode} {
		for n := 1; n <= 8; n++ {
			out = append(out, pick{front: fr, count: n})
			if n > 1 {
				out = append(out, pick{front: fr, count: n, hashed: true})
			}
		}
	}
	return out
}

// rules make the chain.
func (p pick) rules(c Config, f family) []rule {
	out := []rule{{"the way is found", forget()}}
	if p.ranged {
		out = append(out, rule{"callers from elsewhere", nfconn.Seq(f.key(p.front), f.loadSource(f.afterFront()), notInSet(setRanges), drop())})
	}
	if p.local && p.front != frontCluster {
		to := p.anywhere().chain()
		if c.PodCIDR.IsValid() {
			out = append(out, rule{"pods may go anywhere", nfconn.Seq(f.inPrefix(f.loadSource, c.PodCIDR, true), goTo(to))})
		}
		out = append(out, rule{"so may this machine", nfconn.Seq(sourceIsLocal(), goTo(to))})
		if p.locals == 0 {
			return append(out, rule{"nobody here answers", nfconn.Seq(drop())})
		}
		return append(out, p.choose(f, p.locals, localNumbers)...)
	}

	switch {
	case c.MasqueradeAll || p.front != frontCluster && !p.keep:
		out = append(out, rule{"masquerade", nfconn.Seq(setMark(c.mark(), c.mark()))})
	case c.PodCIDR.IsValid():
		out = append(out, rule{"masquerade who is no pod", nfconn.Seq(f.inPrefix(f.loadSource, c.PodCIDR, false), setMark(c.mark(), c.mark()))})
	}
	if p.local {
		return append(out, p.choose(f, p.locals, localNumbers)...)
	}
	return append(out, p.choose(f, p.count, 0)...)
}

// choose picks one of n endpoints, numbered from first.
func (p pick) choose(f family, n int, first uint32) []rule {
	var out []rule
	after := f.afterFront()
	drawn := func(n int) []expr.Any { return nfconn.Seq(f.draw(p, after, n, first), f.key(p.front)) }
	one := func(n int) []expr.Any { return nfconn.Seq(drawn(n), get(setEndpoints, f.chosen()), f.toChosen()) }
	if p.sticky > 0 {
		client := nfconn.Seq(f.key(p.front), f.loadSource(after))
		name := noted(f.chosen())
		there := nfconn.Seq(f.key(p.front), noted(after), get(setEndpoints, f.chosen()), forget(), f.toChosen())
		named := func(n int) []expr.Any { return nfconn.Seq(drawn(n), get(setSlots, register), note(register)) }
		one = func(n int) []expr.Any { return nfconn.Seq(named(n), there) }
		out = append(out,
			rule{"a known client returns, if its endpoint is there", nfconn.Seq(
				client, get(setAffinity, register), note(register), client, name, f.remember(p.sticky), there)},
			rule{"a new client is remembered", nfconn.Seq(
				named(n), client, name, f.disown(), client, name, f.remember(p.sticky), there)})
	}
	out = append(out, rule{fmt.Sprintf("one of %d", n), one(n)})
	if n > 1 {
		// A packet can begin under the old count and look into the new map.
		out = append(out, rule{"the number is gone in this moment: the first", one(1)})
	}
	return append(out, rule{"all are gone in this moment: the client tries again", nfconn.Seq(drop())})
}

// draw puts a number from first up to first+n-1 into a register.
func (f family) draw(p pick, reg uint32, n int, first uint32) []expr.Any {
	if p.hashed && n > 1 {
		return f.hash(reg, n, first)
	}
	return []expr.Any{dice(reg, n, first)}
}

// key lays the service's name into the registers: address, protocol, port. All
// addresses of the node share one name.
func (f family) key(fr front) []expr.Any {
	where := f.loadDestination(register)
	if fr == frontNode {
		where = &expr.Immediate{Register: register, Data: f.anywhere.AsSlice()}
	}
	return nfconn.Seq(where, f.loadPort(register+f.words))
}

// hash puts a number from first up to first+n-1 into a register, the same for all
// packets a client sends from one port. Resolvers send two questions at once from
// one socket. Sent two ways they would be two connections with the same name: the
// kernel drops one of them, or gives it a second for its answer, and the resolver
// waits for five.
func (f family) hash(reg uint32, n int, first uint32) []expr.Any {
	return []expr.Any{
		f.loadSource(register),
		f.loadSourcePort(register + f.words),
		&expr.Hash{SourceRegister: register, DestRegister: reg, Length: uint32(f.addrLen) + 4, Modulus: uint32(n), Seed: hashSeed, Offset: first, Type: expr.HashTypeJenkins},
	}
}

// hashSeed is any number: with one of its own a rule is the same after a restart.
const hashSeed = 0x70686f75

// dice puts a number from first up to first+n-1 into a register.
func dice(reg uint32, n int, first uint32) expr.Any {
	if n == 1 {
		return &expr.Immediate{Register: reg, Data: binaryutil.NativeEndian.PutUint32(first)}
	}
	return &expr.Numgen{Register: reg, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM, Offset: first}
}
