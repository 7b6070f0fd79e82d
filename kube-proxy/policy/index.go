package policy

import (
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// index finds which of many selectors match a set of labels. A selector that
// asks for one value of a label is looked at only where that label has it.
type index[T any] struct {
	byPair map[string][]indexed[T]
	rest   []indexed[T]
}

type indexed[T any] struct {
	selector labels.Selector
	what     T
}

func (x *index[T]) add(s labels.Selector, what T) {
	e := indexed[T]{s, what}
	requirements, selectable := s.Requirements()
	if !selectable {
		return // it matches nothing
	}
	for _, r := range requirements {
		values := r.ValuesUnsorted()
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			if len(values) != 1 {
				continue
			}
			pair := r.Key() + "=" + values[0]
			if x.byPair == nil {
				x.byPair = map[string][]indexed[T]{}
			}
			x.byPair[pair] = append(x.byPair[pair], e)
			return
		}
	}
	x.rest = append(x.rest, e)
}

// match visits what belongs to the selectors that match, in no order.
func (x *index[T]) match(set labels.Set, visit func(T)) {
	for _, e := range x.rest {
		if e.selector.Matches(set) {
			visit(e.what)
		}
	}
	if len(x.byPair) == 0 {
		return
	}
	for k, v := range set {
		for _, e := range x.byPair[k+"="+v] {
			if e.selector.Matches(set) {
				visit(e.what)
			}
		}
	}
}
