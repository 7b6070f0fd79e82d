package announce

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
)

// node is what a Node object says that matters here.
type node struct {
	ready bool
	away  bool // on its way out, or excluded by its label
}

// sum is a hash of a text that is the same on every node and in every version: nodes that run different ones must agree.
func sum(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // a hash takes everything
	return mix(h.Sum64())
}

// mix spreads every bit over all, as the last steps of splitmix64 do: FNV leaves texts that differ at their end alike.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// candidate is a node that may answer for some addresses.
type candidate struct {
	name string
	sum  uint64
}

// candidates are the nodes that may answer. If no node at all is ready, the reports are not believed and all may.
func candidates(nodes map[string]node) []candidate {
	anyReady := false
	for _, n := range nodes {
		anyReady = anyReady || n.ready && !n.away
	}
	var out []candidate
	for name, n := range nodes {
		if !n.away && (n.ready || !anyReady) {
			out = append(out, candidate{name, sum(name)})
		}
	}
	return out
}

// rank names the first so many candidates for an address in their order: a node's luck with an address is a hash of both, and the
// luckiest is the first. With here, only those in it count.
func rank(a netip.Addr, all []candidate, here map[string]bool, many int) []string {
	type luck struct {
		name string
		is   uint64
	}
	base, best := sum(a.String()), make([]luck, 0, many+1)
	for _, c := range all {
		if here != nil && !here[c.name] {
			continue
		}
		l := luck{c.name, mix(base ^ c.sum)}
		at, _ := slices.BinarySearchFunc(best, l, func(x, y luck) int {
			if c := cmp.Compare(y.is, x.is); c != 0 {
				return c
			}
			return cmp.Compare(x.name, y.name)
		})
		if at < many {
			best = slices.Insert(best, at, l)
			best = best[:min(len(best), many)]
		}
	}
	names := make([]string, len(best))
	for i, l := range best {
		names[i] = l.name
	}
	return names
}

// part is what this node does about an address.
type part int

const (
	nobody part = iota // it is no service's, or no node may answer: stop answering
	first              // answer
	second             // watch the first one, and answer when it falls silent
	other              // leave it to others; who answers still goes on until they do
)

// role says what me does when the nodes come in this order and some of them are silent, and whom it leaves the address to or
// listens for. Silent nodes give way; if all are silent, none does.
func role(order []string, me string, silent func(string) bool) (part, string) {
	if len(order) == 0 {
		return nobody, ""
	}
	alive := slices.DeleteFunc(slices.Clone(order), silent)
	if len(alive) == 0 {
		alive = order
	}
	switch slices.Index(alive, me) {
	case 0:
		return first, me
	case 1:
		return second, alive[0]
	default:
		return other, alive[0]
	}
}
