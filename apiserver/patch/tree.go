package patch

import (
	"encoding/json"
	"strconv"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// scalar is the value of a key or of an item of a set.
type scalar struct {
	kind scalarKind
	s    string
	n    int64
}

type scalarKind uint8

const (
	absent scalarKind = iota
	number
	text
	boolean
)

// compare orders scalars as FieldsV1 does: numbers, then strings, then booleans.
func (a scalar) compare(b scalar) int {
	switch {
	case a.kind != b.kind:
		return int(a.kind) - int(b.kind)
	case a.n < b.n:
		return -1
	case a.n > b.n:
		return 1
	}
	return strings.Compare(a.s, b.s)
}

func (a scalar) value() value.Value {
	switch a.kind {
	case number:
		return value.NewValueInterface(a.n)
	case boolean:
		return value.NewValueInterface(a.n != 0)
	}
	return value.NewValueInterface(a.s)
}

func (a scalar) append(dst []byte) []byte {
	switch a.kind {
	case number:
		return strconv.AppendInt(dst, a.n, 10)
	case boolean:
		return strconv.AppendBool(dst, a.n != 0)
	}
	return appendString(dst, a.s)
}

// step is one step of a path: a field or key of a map by its name, or an item of a list by its key or value.
type step struct {
	name string
	list *plan    // nil: a name
	key  []scalar // of an item: its keys' values, or its own
}

// compareKeys orders items of one list as FieldsV1 does.
func compareKeys(a, b []scalar) int {
	for i := range a {
		switch {
		case a[i].kind == absent && b[i].kind == absent:
			continue
		case a[i].kind == absent: // its next key, if any, has a name behind b's
			return oneIf(rest(a[i:]))
		case b[i].kind == absent:
			return -oneIf(rest(b[i:]))
		}
		if c := a[i].compare(b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func oneIf(more bool) int {
	if more {
		return 1
	}
	return -1
}

func rest(key []scalar) bool {
	for _, s := range key {
		if s.kind != absent {
			return true
		}
	}
	return false
}

// element is the step as the library knows it. It may share memory with s.
func (s *step) element() fieldpath.PathElement {
	if s.list == nil {
		return fieldpath.PathElement{FieldName: &s.name}
	}
	if len(s.list.keys) == 0 {
		v := s.key[0].value()
		return fieldpath.PathElement{Value: &v}
	}
	fields := make(value.FieldList, 0, len(s.key))
	for i, k := range s.key {
		if k.kind != absent {
			fields = append(fields, value.Field{Name: s.list.keys[i].name, Value: k.value()})
		}
	}
	return fieldpath.PathElement{Key: &fields}
}

// appendName appends the step as the name of a member of a FieldsV1 object, quoted.
func (s *step) appendName(dst []byte) []byte {
	if s.list == nil {
		return appendQuoted(dst, "f:", s.name)
	}
	if len(s.list.keys) == 0 {
		return appendQuoted(dst, "v:", string(s.key[0].append(nil)))
	}
	inner := make([]byte, 0, 64)
	inner = append(inner, '{')
	for i, k := range s.key {
		if k.kind == absent {
			continue
		}
		if len(inner) > 1 {
			inner = append(inner, ',')
		}
		inner = append(appendString(inner, s.list.keys[i].name), ':')
		inner = k.append(inner)
	}
	return appendQuoted(dst, "k:", string(append(inner, '}')))
}

// appendString appends a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= 0x7f {
			b, err := json.Marshal(s)
			if err != nil {
				panic(err) // strings always have a JSON form
			}
			return append(dst, b...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// appendQuoted appends prefix and s as one JSON string, only what must be escaped being so.
func appendQuoted(dst []byte, prefix, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(append(dst, '"'), prefix...)
	for from, i := 0, 0; ; i++ {
		if i == len(s) {
			dst = append(dst, s[from:]...)
			break
		}
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, '"')
}

// tree is a set of paths in the order of FieldsV1. Its nodes lie in one slice that is used again and again; node 0 is the root.
type tree struct{ nodes []twig }

type twig struct {
	step
	member            bool
	child, last, next int32 // 0: none
}

func (t *tree) reset() {
	clear(t.nodes)
	t.nodes = append(t.nodes[:0], twig{})
}

func (t *tree) empty() bool { return len(t.nodes) == 1 }

// add appends a child, which must come behind those that are there.
func (t *tree) add(parent int32, s step) int32 {
	i := int32(len(t.nodes))
	t.nodes = append(t.nodes, twig{step: s})
	p := &t.nodes[parent]
	if p.child == 0 {
		p.child = i
	} else {
		t.nodes[p.last].next = i
	}
	p.last = i
	return i
}

// appendJSON appends the FieldsV1 form.
func (t *tree) appendJSON(dst []byte) []byte { return t.appendNode(dst, 0) }

func (t *tree) appendNode(dst []byte, at int32) []byte {
	n := &t.nodes[at]
	dst = append(dst, '{')
	if n.member && n.child != 0 {
		dst = append(dst, `".":{},`...)
	}
	for i := n.child; i != 0; i = t.nodes[i].next {
		dst = append(t.nodes[i].appendName(dst), ':')
		dst = t.appendNode(dst, i)
		if t.nodes[i].next != 0 {
			dst = append(dst, ',')
		}
	}
	return append(dst, '}')
}

// set is the library's form. Its memory is its own.
func (t *tree) set() *fieldpath.Set {
	s := &fieldpath.Set{}
	t.into(s, 0)
	return s
}

func (t *tree) into(s *fieldpath.Set, at int32) {
	for i := t.nodes[at].child; i != 0; i = t.nodes[i].next {
		own := t.nodes[i].step
		pe := own.element()
		if t.nodes[i].member {
			s.Members.Insert(pe)
		}
		if t.nodes[i].child != 0 {
			t.into(s.Children.Descend(pe), i)
		}
	}
}

// within says whether s has every path.
func (t *tree) within(s *fieldpath.Set) bool { return t.withinFrom(s, 0) }

func (t *tree) withinFrom(s *fieldpath.Set, at int32) bool {
	for i := t.nodes[at].child; i != 0; i = t.nodes[i].next {
		n := &t.nodes[i]
		pe := n.element()
		if n.member && !s.Members.Has(pe) {
			return false
		}
		if n.child == 0 {
			continue
		}
		if below, ok := s.Children.Get(pe); !ok || !t.withinFrom(below, i) {
			return false
		}
	}
	return true
}

// meets says whether s has one of the paths.
func (t *tree) meets(s *fieldpath.Set) bool { return t.meetsFrom(s, 0) }

func (t *tree) meetsFrom(s *fieldpath.Set, at int32) bool {
	for i := t.nodes[at].child; i != 0; i = t.nodes[i].next {
		n := &t.nodes[i]
		pe := n.element()
		if n.member && s.Members.Has(pe) {
			return true
		}
		if n.child == 0 {
			continue
		}
		if below, ok := s.Children.Get(pe); ok && t.meetsFrom(below, i) {
			return true
		}
	}
	return false
}
