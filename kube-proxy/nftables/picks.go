package nftables

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// front is how a client names a service.
type front string

const (
	frontCluster  front = "cluster"  // cluster IP
	frontExternal front = "external" // external and load balancer addresses
	frontNode     front = "node"     // node port
)

// localNumbers is where the numbers of this node's endpoints begin, for services
// with a policy Local. All endpoints are numbered from 0.
const localNumbers = 1 << 24

// pick is a way to choose an endpoint. There is one chain for each that is in
// use, shared by all services that have as many endpoints and choose alike.
type pick struct {
	front  front
	keep   bool          // the client keeps its address if it is a pod
	count  int           // endpoints anywhere
	local  bool          // only those of this node
	locals int           // how many these are
	sticky time.Duration // 0: each connection anew
}

// chain is the name of the chain that picks like this.
func (p pick) chain() string {
	switch {
	case p.count == 0 && p.locals == 0:
		return chainReject
	case p.local && p.front == frontCluster && p.locals == 0:
		return chainDrop
	case !p.local && p.count == 0:
		return chainReject
	}
	var b strings.Builder
	b.WriteString(string(p.front))
	if p.keep {
		b.WriteString("-keep")
	}
	if p.local {
		fmt.Fprintf(&b, "-local-%d", p.locals)
		if p.front != frontCluster {
			fmt.Fprintf(&b, "-of-%d", p.count)
		}
	} else {
		fmt.Fprintf(&b, "-%d", p.count)
	}
	if p.sticky > 0 {
		fmt.Fprintf(&b, "-sticky-%d", p.sticky/time.Second)
	}
	return b.String()
}

func comparePicks(a, b pick) int { return strings.Compare(a.chain(), b.chain()) }

// anywhere is the pick for those clients of a Local service that may go to any
// endpoint: pods and processes of this node.
func (p pick) anywhere() pick {
	return pick{front: p.front, keep: true, count: p.count, sticky: p.sticky}
}

// needs are the picks whose chains the rules of this one go to.
func (p pick) needs() []pick {
	if p.local && p.front != frontCluster {
		return []pick{p.anywhere()}
	}
	return nil
}

// rules make the chain.
func (p pick) rules(c Config, f family) []rule {
	var out []rule
	if p.local && p.front != frontCluster {
		to := p.anywhere().chain()
		if c.PodCIDR.IsValid() {
			out = append(out, rule{"pods may go anywhere", seq(f.inPrefix(f.loadSource, c.PodCIDR, true), goTo(to))})
		}
		out = append(out, rule{"so may this machine", seq(sourceIsLocal(), goTo(to))})
		if p.locals == 0 {
			return append(out, rule{"nobody here answers", seq(drop())})
		}
		return append(out, p.choose(f, p.locals, localNumbers)...)
	}

	switch {
	case c.MasqueradeAll || p.front != frontCluster && !p.keep:
		out = append(out, rule{"masquerade", seq(setMark(c.mark(), c.mark()))})
	case c.PodCIDR.IsValid():
		out = append(out, rule{"masquerade who is no pod", seq(f.inPrefix(f.loadSource, c.PodCIDR, false), setMark(c.mark(), c.mark()))})
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
	random := seq(f.key(p.front), dice(after, n, first), get(setEndpoints, f.chosen()))
	if p.sticky > 0 {
		out = append(out,
			rule{"a known client returns to its endpoint, if that still answers", seq(
				f.key(p.front), f.loadSource(after), get(setAffinity, f.chosen()), get(setAffinity, after), inSet(setStickable),
				f.loadSource(after), f.remember(p.sticky), f.toChosen())},
			rule{"a new client is remembered", seq(
				random, f.loadSource(after), f.forget(), f.remember(p.sticky), f.toChosen())})
	}
	out = append(out, rule{fmt.Sprintf("one of %d", n), seq(random, f.toChosen())})
	if n > 1 {
		// A packet can begin under the old count and look into the new map.
		one := seq(f.key(p.front), dice(after, 1, first), get(setEndpoints, f.chosen()))
		out = append(out, rule{"the number is gone in this moment: the first", seq(one, f.toChosen())})
	}
	return append(out, rule{"all are gone in this moment: the client tries again", seq(drop())})
}

// key lays the service's name into the registers: address, protocol, port. All
// addresses of the node share one name.
func (f family) key(fr front) []expr.Any {
	where := f.loadDestination(register)
	if fr == frontNode {
		where = &expr.Immediate{Register: register, Data: f.anywhere.AsSlice()}
	}
	return seq(where, f.loadPort(register+f.words))
}

// dice puts a number from first up to first+n-1 into a register.
func dice(reg uint32, n int, first uint32) expr.Any {
	if n == 1 {
		return &expr.Immediate{Register: reg, Data: binaryutil.NativeEndian.PutUint32(first)}
	}
	return &expr.Numgen{Register: reg, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM, Offset: first}
}
