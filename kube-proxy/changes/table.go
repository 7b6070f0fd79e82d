package changes

import (
	"iter"
	"slices"
	"sort"

	"k8s.io/apimachinery/pkg/types"
)

// Table is everything the node should offer, sorted by name.
// INVARIANT: neither the table nor what it points at is ever changed.
//
// It lies in pieces, which tables share: a new one costs what changed, and so does
// finding the difference of two.
type Table struct {
	pieces []piece
	len    int
}

// piece is some Services with all their ports; never empty.
type piece []*Service

// pieceLen is about how many ports a piece has.
const pieceLen = 128

// NewTable makes a table of services in any order.
func NewTable(services ...*Service) *Table {
	all := slices.Clone(services)
	slices.SortFunc(all, func(a, b *Service) int { return a.Name.compare(b.Name) })
	return &Table{pieces: cut(all), len: len(all)}
}

// Len is how many services there are.
func (t *Table) Len() int { return t.len }

// All yields the services by name.
func (t *Table) All() iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		for _, p := range t.pieces {
			for _, s := range p {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Services are all of them by name, in a new list.
func (t *Table) Services() []*Service { return slices.AppendSeq(make([]*Service, 0, t.len), t.All()) }

// cut makes pieces of a sorted list, which must not be changed afterwards. The
// ports of one Service stay together.
func cut(all []*Service) []piece {
	var out []piece
	for len(all) > 0 {
		n := min(pieceLen, len(all))
		for n < len(all) && all[n].Name.owner() == all[n-1].Name.owner() {
			n++
		}
		out = append(out, all[:n:n])
		all = all[n:]
	}
	return out
}

// owner names the Service of a port.
func (n Name) owner() types.NamespacedName {
	return types.NamespacedName{Namespace: n.Namespace, Name: n.Service}
}

// of finds the piece where the ports of a Service are or would be.
func (t *Table) of(name types.NamespacedName) int {
	first := Name{Namespace: name.Namespace, Service: name.Name}
	return max(0, sort.Search(len(t.pieces), func(i int) bool {
		return t.pieces[i][0].Name.compare(first) > 0 && t.pieces[i][0].Name.owner() != name
	})-1)
}

// ports finds the ports of one Service.
func (t *Table) ports(name types.NamespacedName) []*Service {
	if len(t.pieces) == 0 {
		return nil
	}
	p := t.pieces[t.of(name)]
	from, to := p.find(name)
	return p[from:to]
}

// find tells where in the piece the ports of a Service are or would be.
func (p piece) find(name types.NamespacedName) (from, to int) {
	first := Name{Namespace: name.Namespace, Service: name.Name}
	from = sort.Search(len(p), func(i int) bool { return p[i].Name.compare(first) >= 0 })
	for to = from; to < len(p) && p[to].Name.owner() == name; {
		to++
	}
	return from, to
}

// few is how many Services are replaced one by one; more are merged in one pass.
const few = 32

// with makes a table in which the ports of some Services are others.
func (t *Table) with(fresh map[types.NamespacedName][]*Service) *Table {
	if len(fresh) > few || len(t.pieces) == 0 {
		all := make([]*Service, 0, t.len+len(fresh))
		for s := range t.All() {
			if _, gone := fresh[s.Name.owner()]; !gone {
				all = append(all, s)
			}
		}
		for _, now := range fresh {
			all = append(all, now...)
		}
		return NewTable(all...)
	}
	out := &Table{pieces: slices.Clone(t.pieces), len: t.len}
	for name, now := range fresh {
		i := out.of(name)
		if len(out.pieces) == 0 {
			out.pieces, out.len = cut(now), len(now)
			continue
		}
		old := out.pieces[i]
		from, to := old.find(name)
		p := slices.Concat(old[:from], now, old[to:])
		out.len += len(p) - len(old)
		if len(p) > 0 && len(p) <= 2*pieceLen {
			out.pieces[i] = p
		} else {
			out.pieces = slices.Replace(out.pieces, i, i+1, cut(p)...)
		}
	}
	return out
}

// walk goes over the services of a table, a piece at a time where it can.
type walk struct {
	pieces []piece
	at     int // in the first of them
}

func (w *walk) done() bool     { return len(w.pieces) == 0 }
func (w *walk) here() *Service { return w.pieces[0][w.at] }
func (w *walk) next() {
	if w.at++; w.at == len(w.pieces[0]) {
		w.pieces, w.at = w.pieces[1:], 0
	}
}

// same tells whether both stand before one and the same piece.
func (w *walk) same(o *walk) bool {
	return w.at == 0 && o.at == 0 && len(w.pieces[0]) == len(o.pieces[0]) && &w.pieces[0][0] == &o.pieces[0][0]
}

// Compare finds the services that are not the same in both tables, sorted. A
// changed one is in both lists.
func Compare(was, now *Table) (gone, came []*Service) {
	a, b := walk{pieces: was.pieces}, walk{pieces: now.pieces}
	for !a.done() && !b.done() {
		if a.same(&b) {
			a.pieces, b.pieces = a.pieces[1:], b.pieces[1:]
			continue
		}
		switch x, y := a.here(), b.here(); {
		case x == y:
			a.next()
			b.next()
		case x.Name.Compare(y.Name) < 0:
			gone = append(gone, x)
			a.next()
		case x.Name.Compare(y.Name) > 0:
			came = append(came, y)
			b.next()
		default:
			gone, came = append(gone, x), append(came, y)
			a.next()
			b.next()
		}
	}
	for ; !a.done(); a.next() {
		gone = append(gone, a.here())
	}
	for ; !b.done(); b.next() {
		came = append(came, b.here())
	}
	return gone, came
}
