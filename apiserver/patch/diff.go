package patch

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
)

// diff compares two values of one type and notes which paths changed (were added or are different) and which are gone, by the
// rules of structured merge (https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy): a leaf is a
// plain value, an atomic list, map or struct, or an empty one; what is added or removed is noted with all below it. Used for one
// comparison at a time and then again; not safe for concurrent use.
type diff struct {
	changed, removed tree

	path  []frame
	key   []scalar   // memory of steps
	names [][]string // memory of the sorted keys of maps, by depth
	depth int
	bad   error  // the first list that cannot be told apart
	raw   []byte // for whoever writes a tree down
}

// frame is a step on the way to where the comparison is, and its nodes, 0 while there are none.
type frame struct {
	step
	changed, removed int32
}

var errNoKey = errors.New("an item of a list has none of the keys that name it")

// run compares two structs of p's type. It tells of lists whose items have no key.
func (d *diff) run(p *plan, old, obj reflect.Value) error {
	d.changed.reset()
	d.removed.reset()
	d.path, d.key, d.bad = append(d.path[:0], frame{}), d.key[:0], nil
	d.depth = 0
	d.compare(p, old, obj)
	return d.bad
}

// release drops what the memory points at.
func (d *diff) release() {
	d.changed.reset()
	d.removed.reset()
	clear(d.path[:cap(d.path)])
	clear(d.key[:cap(d.key)])
	for _, names := range d.names {
		clear(names[:cap(names)])
	}
}

func (d *diff) push(s step) { d.path = append(d.path, frame{step: s}) }
func (d *diff) pop()        { d.path = d.path[:len(d.path)-1] }

// change and remove note the present path. The whole object is nobody's.
func (d *diff) change() {
	if len(d.path) > 1 {
		n := d.nodeOf(&d.changed, false)
		d.changed.nodes[n].member = true
	}
}

func (d *diff) remove() {
	if len(d.path) > 1 {
		n := d.nodeOf(&d.removed, true)
		d.removed.nodes[n].member = true
	}
}

func (d *diff) nodeOf(t *tree, removed bool) int32 {
	at := int32(0)
	for i := 1; i < len(d.path); i++ {
		f := &d.path[i]
		have := &f.changed
		if removed {
			have = &f.removed
		}
		if *have == 0 {
			*have = t.add(at, f.step)
		}
		at = *have
	}
	return at
}

// A Value is null when it is a nil pointer, map or slice, and missing when it is the zero Value.
func null(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return v.IsNil()
	}
	return false
}

func follow(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	return v
}

// leaf compares values that have one owner.
func (d *diff) leaf(p *plan, old, obj reflect.Value) {
	switch {
	case !old.IsValid():
		d.change()
	case !obj.IsValid():
		d.remove()
	case !equal(p, old, obj):
		d.change()
	}
}

// compare compares two values of which at least one is there.
func (d *diff) compare(p *plan, old, obj reflect.Value) {
	if same(old, obj) {
		return
	}
	old, obj = follow(old), follow(obj)
	if p.shape == plain || p.shape == opaque || p.atomic {
		d.leaf(p, old, obj)
		return
	}
	if p.shape == dynamic {
		d.any(anyOf(p, old), anyOf(p, obj), old.IsValid(), obj.IsValid())
		return
	}
	any := false
	switch p.shape {
	case record:
		any = d.record(p, old, obj)
	case mapping:
		any = d.mapping(p, old, obj)
	case sequence:
		any = d.sequence(p, old, obj)
	}
	switch {
	case !any:
		d.leaf(p, old, obj)
	case !old.IsValid():
		d.change()
	case !obj.IsValid():
		d.remove()
	}
}

// same says whether two values share their memory, so that nothing can differ.
func same(a, b reflect.Value) bool {
	if !a.IsValid() || !b.IsValid() {
		return false
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Map:
		return !a.IsNil() && a.UnsafePointer() == b.UnsafePointer()
	case reflect.Slice:
		return a.Len() > 0 && a.Len() == b.Len() && a.UnsafePointer() == b.UnsafePointer()
	}
	return false
}

// record compares structs; it says whether either has a field.
func (d *diff) record(p *plan, old, obj reflect.Value) bool {
	there := false
	hasOld, hasObj := old.IsValid() && !null(old), obj.IsValid() && !null(obj)
	for i := range p.fields {
		m := &p.fields[i]
		var o, n reflect.Value
		if hasOld {
			o = m.get(old)
		}
		if hasObj {
			n = m.get(obj)
		}
		if !o.IsValid() && !n.IsValid() {
			continue
		}
		there = true
		d.push(step{name: m.name})
		d.compare(m.plan, o, n)
		d.pop()
	}
	return there
}

// mapping compares maps; it says whether either has a key.
func (d *diff) mapping(p *plan, old, obj reflect.Value) bool {
	if d.depth == len(d.names) {
		d.names = append(d.names, nil)
	}
	names := d.names[d.depth][:0]
	for _, m := range [...]reflect.Value{old, obj} {
		if m.IsValid() {
			names = appendKeys(names, m)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	d.names[d.depth] = names
	d.depth++
	for _, name := range names {
		d.push(step{name: name})
		if p.t.Elem().Kind() == reflect.String && p.elem.shape == plain {
			d.texts(p, old, obj, name)
		} else {
			d.compare(p.elem, index(p, old, name), index(p, obj, name))
		}
		d.pop()
	}
	d.depth--
	return len(names) > 0
}

func appendKeys(names []string, m reflect.Value) []string {
	if m.Type() == texts {
		for name := range m.Interface().(map[string]string) {
			names = append(names, name)
		}
		return names
	}
	for it := m.MapRange(); it.Next(); {
		names = append(names, it.Key().String())
	}
	return names
}

var texts = reflect.TypeFor[map[string]string]()

func index(p *plan, m reflect.Value, name string) reflect.Value {
	if !m.IsValid() {
		return m
	}
	k := reflect.ValueOf(name)
	if kt := p.t.Key(); kt != k.Type() {
		k = k.Convert(kt)
	}
	return m.MapIndex(k)
}

// texts compares one value of maps of strings.
func (d *diff) texts(p *plan, old, obj reflect.Value, name string) {
	a, inOld := textIn(p, old, name)
	b, inObj := textIn(p, obj, name)
	switch {
	case inObj && (!inOld || a != b):
		d.change()
	case !inObj:
		d.remove()
	}
}

func textIn(p *plan, m reflect.Value, name string) (string, bool) {
	if !m.IsValid() {
		return "", false
	}
	if p.t == texts {
		s, ok := m.Interface().(map[string]string)[name]
		return s, ok
	}
	v := index(p, m, name)
	if !v.IsValid() {
		return "", false
	}
	return v.String(), true
}

// item is where an item of a list stands and by what it is named.
type item struct {
	key []scalar
	at  int
}

// sequence compares map lists and sets; it says whether either has an item. Items that are there twice are one value.
func (d *diff) sequence(p *plan, old, obj reflect.Value) bool {
	a, b := d.items(p, old), d.items(p, obj)
	there := len(a) > 0 || len(b) > 0
	for len(a) > 0 || len(b) > 0 {
		c := 0
		switch {
		case len(a) == 0:
			c = 1
		case len(b) == 0:
			c = -1
		default:
			c = compareKeys(a[0].key, b[0].key)
		}
		var as, bs []item
		if c <= 0 {
			as, a = run(a)
		}
		if c >= 0 {
			bs, b = run(b)
		}
		first := as
		if len(as) == 0 {
			first = bs
		}
		d.push(step{list: p, key: first[0].key})
		d.item(p, old, obj, as, bs)
		d.pop()
	}
	return there
}

// item compares what stands under one key.
func (d *diff) item(p *plan, old, obj reflect.Value, as, bs []item) {
	var none reflect.Value
	switch {
	case len(as) <= 1 && len(bs) <= 1:
		o, n := none, none
		if len(as) == 1 {
			o = old.Index(as[0].at)
		}
		if len(bs) == 1 {
			n = obj.Index(bs[0].at)
		}
		d.compare(p.elem, o, n)
	case len(as) >= 2 && len(bs) >= 2:
		if !slices.EqualFunc(as, bs, func(a, b item) bool { return equal(p.elem, old.Index(a.at), obj.Index(b.at)) }) {
			d.change()
		}
	case len(as) >= 2:
		if len(bs) == 1 {
			d.compare(p.elem, none, obj.Index(bs[0].at))
		}
		d.remove()
	default:
		if len(as) == 1 {
			d.compare(p.elem, old.Index(as[0].at), none)
		}
		d.change()
	}
}

// run cuts off the items at the front that have the same key.
func run(items []item) (front, rest []item) {
	n := 1
	for n < len(items) && compareKeys(items[0].key, items[n].key) == 0 {
		n++
	}
	return items[:n], items[n:]
}

// items are the items of a list, sorted by key; those of one key in their order.
func (d *diff) items(p *plan, list reflect.Value) []item {
	if !list.IsValid() || list.Len() == 0 {
		return nil
	}
	out := make([]item, 0, list.Len())
	sorted := true
	for i := range list.Len() {
		from := len(d.key)
		d.appendKey(p, follow(list.Index(i)))
		key := d.key[from:len(d.key):len(d.key)]
		sorted = sorted && (i == 0 || compareKeys(out[i-1].key, key) <= 0)
		out = append(out, item{key, i})
	}
	if !sorted {
		slices.SortStableFunc(out, func(a, b item) int { return compareKeys(a.key, b.key) })
	}
	return out
}

func (d *diff) appendKey(p *plan, v reflect.Value) {
	if len(p.keys) == 0 {
		d.key = append(d.key, d.scalarOf(v))
		return
	}
	any := false
	for _, k := range p.keys {
		s := scalar{}
		if !null(v) {
			s = d.scalarOf(follow(k.member.get(v)))
		}
		if s.kind == absent {
			switch preset := k.member.preset.(type) {
			case string:
				s = scalar{kind: text, s: preset}
			case float64:
				s = scalar{kind: number, n: int64(preset)}
			}
		}
		any = any || s.kind != absent
		d.key = append(d.key, s)
	}
	if !any {
		d.bad = errNoKey
	}
}

func (d *diff) scalarOf(v reflect.Value) scalar {
	switch v.Kind() {
	case reflect.Invalid:
		return scalar{}
	case reflect.String:
		return scalar{kind: text, s: v.String()}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return scalar{kind: number, n: v.Int()}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return scalar{kind: number, n: int64(v.Uint())}
	case reflect.Bool:
		if v.Bool() {
			return scalar{kind: boolean, n: 1}
		}
		return scalar{kind: boolean}
	}
	if v.Kind() != reflect.Pointer || !v.IsNil() {
		if b, err := json.Marshal(v.Interface()); err == nil { // a key with a JSON form of its own
			if s := strings.Trim(string(b), `"`); len(s) < len(b) {
				return scalar{kind: text, s: s}
			}
		}
	}
	d.bad = errNoKey
	return scalar{}
}

// any compares what a dynamic value holds: objects by their members, all else as one value.
func (d *diff) any(old, obj any, hasOld, hasObj bool) {
	a, isA := old.(map[string]any)
	b, isB := obj.(map[string]any)
	switch {
	case !hasOld && !hasObj:
		return
	case len(a) == 0 && len(b) == 0 || !isA && !isB:
		switch {
		case !hasOld:
			d.change()
		case !hasObj:
			d.remove()
		case !reflect.DeepEqual(old, obj):
			d.change()
		}
		return
	}
	names := make([]string, 0, len(a)+len(b))
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		o, inA := a[name]
		n, inB := b[name]
		d.push(step{name: name})
		d.any(o, n, inA, inB)
		d.pop()
	}
	switch {
	case !hasOld, hasObj && isA != isB && old != nil && obj != nil:
		d.change()
	case !hasObj:
		d.remove()
	}
}
