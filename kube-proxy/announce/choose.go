package announce

import (
	"cmp"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
)

// node is what a Node object says that matters here.
type node struct {
	ready bool
	away  bool // on its way out, or excluded by its label
}

// weight is a node's luck with an address: the highest of all has it. It is the same on every node and in every version: nodes
// that run different ones must agree.
func weight(a netip.Addr, name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(a.String() + " " + name)) // a hash takes everything
	// FNV leaves the high bits of texts that differ at their end alike; these steps (of splitmix64) spread every bit over all.
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// rank orders the nodes that may answer for an address, the first first. With here, only those in it may. If no node at all is
// ready, the reports are not believed and all may.
func rank(a netip.Addr, nodes map[string]node, here map[string]bool) []string {
	anyReady := false
	for _, n := range nodes {
		anyReady = anyReady || n.ready && !n.away
	}
	names := slices.DeleteFunc(slices.Collect(maps.Keys(nodes)), func(name string) bool {
		n := nodes[name]
		return n.away || anyReady && !n.ready || here != nil && !here[name]
	})
	slices.SortFunc(names, func(x, y string) int {
		if c := cmp.Compare(weight(a, y), weight(a, x)); c != 0 {
			return c
		}
		return cmp.Compare(x, y)
	})
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
