package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
)

// span is the addresses from lo to hi, both included, and the block peers that
// hold all of them.
type span struct {
	lo, hi netip.Addr
	peers  []int32 // sorted, not empty
}

// spans cuts the address space of a family along the blocks: the result is
// sorted and disjoint, and no two neighbours have the same peers.
func spans(blocks map[int32]peer, v6 bool) []span {
	type edge struct {
		at    netip.Addr // the first address it holds for
		peer  int32
		enter bool
	}
	var edges []edge
	for id, b := range blocks {
		if b.block.Addr().Is6() != v6 {
			continue
		}
		for _, s := range b.allowed() {
			edges = append(edges, edge{s.lo, id, true})
			if next := s.hi.Next(); next.IsValid() {
				edges = append(edges, edge{next, id, false})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.peer, b.peer)) })

	var out []span
	var inside []int32
	for i := 0; i < len(edges); {
		at := edges[i].at
		for ; i < len(edges) && edges[i].at == at; i++ {
			j, there := slices.BinarySearch(inside, edges[i].peer)
			switch {
			case edges[i].enter && !there:
				inside = slices.Insert(inside, j, edges[i].peer)
			case !edges[i].enter && there:
				inside = slices.Delete(inside, j, j+1)
			}
		}
		if n := len(out); n > 0 && !out[n-1].hi.IsValid() {
			if slices.Equal(out[n-1].peers, inside) {
				continue
			}
			out[n-1].hi = at.Prev()
		}
		if len(inside) > 0 {
			out = append(out, span{lo: at, peers: slices.Clone(inside)})
		}
	}
	if n := len(out); n > 0 && !out[n-1].hi.IsValid() {
		out[n-1].hi = lastOf(netip.PrefixFrom(out[n-1].lo, 0))
	}
	return out
}

// allowed is the block without its exceptions: sorted, disjoint, not touching.
func (p peer) allowed() []span {
	except := slices.Clone(p.except)
	slices.SortFunc(except, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	var out []span
	next, last := p.block.Addr(), lastOf(p.block)
	for _, e := range except {
		if !p.block.Overlaps(e) || lastOf(e).Compare(next) < 0 {
			continue
		}
		if next.Compare(e.Addr()) < 0 {
			out = append(out, span{lo: next, hi: e.Addr().Prev()})
		}
		if next = lastOf(e).Next(); !next.IsValid() || next.Compare(last) > 0 {
			return out
		}
	}
	return append(out, span{lo: next, hi: last})
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b) // it has an address's length
	return a
}

// within is the block peers that hold an address.
func within(sorted []placed, a netip.Addr) []int32 {
	i := sort.Search(len(sorted), func(i int) bool { return sorted[i].hi.Compare(a) >= 0 })
	if i < len(sorted) && sorted[i].lo.Compare(a) <= 0 {
		return sorted[i].peers
	}
	return nil
}
