package patch

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"pilothouse.dev/apiserver/markers"
)

// shape is how a value of a Go type looks as JSON.
type shape uint8

const (
	plain    shape = iota // a string, number, boolean or bytes
	opaque                // a type with a JSON form of its own: one value
	dynamic               // such a type that may hold an object: what it holds is looked into
	record                // a struct
	mapping               // a map
	sequence              // a slice
)

// plan is what comparing two values of one Go type needs: reflection and markers, read once. Pointers are followed: t is never
// one. Set once but for the parts of recursive types, which are set before a plan is handed out.
type plan struct {
	t      reflect.Type
	shape  shape
	atomic bool // one value: its parts have no owners of their own

	fields []member // of a record, by JSON name
	elem   *plan    // of a mapping and of a sequence

	// Of a sequence that is not atomic: keys name an item of a map list, sorted; a set has none.
	keys []listKey

	nothing reflect.Value // the zero value, addressable; never written
}

// member is a field of a record.
type member struct {
	name      string
	index     int   // in its struct
	through   []int // first, the embedded structs that hold that
	omitEmpty bool
	omitZero  func(reflect.Value) bool // nil: not asked for
	pointer   bool
	plan      *plan
	preset    any // the default that the markers tell; nil: none
}

// listKey is a field that names an item of a map list.
type listKey struct {
	name   string
	member *member
}

// planKey is a type as a field's markers make it.
type planKey struct {
	t                  reflect.Type
	list, mapType, str string
	keys               string
}

// plans makes plans and keeps them. Safe for concurrent use.
type plans struct {
	roots sync.Map // rootKey → *plan: objects, without the metadata that the server owns

	mu   sync.Mutex
	made map[planKey]*plan
}

// served names what nobody owns: the type of an object and the metadata that only the server sets
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
var served = []string{
	"name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion",
}

type rootKey struct {
	t     reflect.Type
	scope Scope
}

// root is the plan of an object's type t, a struct, as far as a scope goes.
func (p *plans) root(t reflect.Type, scope Scope) *plan {
	if found, ok := p.roots.Load(rootKey{t, scope}); ok {
		return found.(*plan)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil {
		p.made = map[planKey]*plan{}
	}
	r := *p.of(planKey{t: t})
	r.fields = slices.DeleteFunc(slices.Clone(r.fields), func(m member) bool {
		return m.name == "kind" || m.name == "apiVersion" || !scope.has(m.name)
	})
	for i, m := range r.fields {
		if m.name == "metadata" {
			meta := *m.plan
			meta.fields = slices.DeleteFunc(slices.Clone(meta.fields), func(m member) bool { return slices.Contains(served, m.name) })
			r.fields[i].plan = &meta
		}
	}
	found, _ := p.roots.LoadOrStore(rootKey{t, scope}, &r)
	return found.(*plan)
}

// whole is the plan of a type with all its fields.
func (p *plans) whole(t reflect.Type) *plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil {
		p.made = map[planKey]*plan{}
	}
	return p.of(planKey{t: t})
}

var (
	marshaler    = reflect.TypeFor[json.Marshaler]()
	rawExtension = reflect.TypeFor[runtime.RawExtension]()
)

// of makes the plan of a type. p.mu is held.
func (p *plans) of(k planKey) *plan {
	for k.t.Kind() == reflect.Pointer {
		k.t = k.t.Elem()
	}
	if m := markers.Of(k.t); m != nil {
		k = k.withType(m)
	}
	if made := p.made[k]; made != nil {
		return made
	}
	n := &plan{t: k.t, nothing: reflect.New(k.t).Elem()}
	p.made[k] = n
	switch {
	case k.t == rawExtension: // upstream has none of what it holds owned by itself
		n.shape, n.atomic = dynamic, true
	case isDynamic(k.t):
		n.shape = dynamic
	case k.t.Implements(marshaler) || reflect.PointerTo(k.t).Implements(marshaler):
		n.shape = opaque
	case k.t.Kind() == reflect.Struct:
		n.shape, n.atomic = record, k.str == "atomic"
		n.fields = p.members(k.t, nil)
		slices.SortFunc(n.fields, func(a, b member) int { return strings.Compare(a.name, b.name) })
	case k.t.Kind() == reflect.Map:
		n.shape, n.atomic = mapping, k.mapType == "atomic"
		n.elem = p.of(planKey{t: k.t.Elem()})
	case k.t.Kind() == reflect.Slice && k.t.Elem().Kind() != reflect.Uint8:
		n.shape = sequence
		n.elem = p.of(planKey{t: k.t.Elem()})
		n.atomic = k.list != "map" && k.list != "set"
		if k.list == "map" {
			n.keys = listKeys(n.elem, strings.Split(k.keys, ","))
		}
	}
	return n
}

// isDynamic knows other types that hold any JSON: FieldsV1, and by its name and shape apiextensions' JSON.
func isDynamic(t reflect.Type) bool {
	return t == reflect.TypeFor[metav1.FieldsV1]() ||
		t.Kind() == reflect.Struct && t.Name() == "JSON" && t.NumField() == 1 && t.Field(0).Name == "Raw"
}

// withType adds what the type itself says where the field says nothing.
func (k planKey) withType(m *markers.Type) planKey {
	if k.list == "" {
		k.list, k.keys = m.ListType, strings.Join(m.ListKeys, ",")
	}
	if k.mapType == "" {
		k.mapType = m.MapType
	}
	if k.str == "" {
		k.str = m.StructType
	}
	return k
}

// members are the fields of a struct, those of embedded structs among them.
func (p *plans) members(t reflect.Type, through []int) []member {
	var out []member
	said := markers.Of(t)
	for f := range t.Fields() {
		tag, tagged := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		if tag == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if f.Anonymous && name == "" {
			of := f.Type
			if of.Kind() == reflect.Pointer {
				of = of.Elem()
			}
			if of.Kind() == reflect.Struct {
				out = append(out, p.members(of, append(slices.Clip(through), f.Index[0]))...)
			}
			continue
		}
		if !tagged || name == "" {
			name = f.Name
		}
		k := planKey{t: f.Type}
		m := member{name: name, index: f.Index[0], through: through, pointer: f.Type.Kind() == reflect.Pointer}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "omitempty":
				m.omitEmpty = true
			case "omitzero":
				m.omitZero = zeroOf(f.Type)
			}
		}
		if said != nil {
			s := said.Fields[name]
			k.list, k.mapType, k.str, k.keys = s.ListType, s.MapType, s.StructType, strings.Join(s.ListKeys, ",")
			if s.Default != "" {
				if err := json.Unmarshal([]byte(s.Default), &m.preset); err != nil {
					panic(fmt.Sprintf("patch: the default of %s.%s is no JSON: %v", t, name, err))
				}
			}
		}
		m.plan = p.of(k)
		out = append(out, m)
	}
	return out
}

// zeroOf is how encoding/json asks whether a value of type t is zero.
func zeroOf(t reflect.Type) func(reflect.Value) bool {
	if zeroer := reflect.TypeFor[interface{ IsZero() bool }](); t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(zeroer) {
		return func(v reflect.Value) bool { return pointerTo(v).(interface{ IsZero() bool }).IsZero() }
	}
	return reflect.Value.IsZero
}

// listKeys finds the fields that name an item. A key that the item has not is left out.
func listKeys(item *plan, names []string) []listKey {
	slices.Sort(names)
	keys := make([]listKey, 0, len(names))
	for _, name := range names {
		if i := slices.IndexFunc(item.fields, func(m member) bool { return m.name == name }); i >= 0 {
			keys = append(keys, listKey{name, &item.fields[i]})
		}
	}
	return keys
}

// get is the field's value in a struct; the zero Value when it is left out of JSON, or when an embedded pointer is nil.
func (m *member) get(v reflect.Value) reflect.Value {
	for _, index := range m.through {
		if v = v.Field(index); v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return reflect.Value{}
			}
			v = v.Elem()
		}
	}
	v = v.Field(m.index)
	if m.omitEmpty && empty(v) || m.omitZero != nil && m.omitZero(v) {
		return reflect.Value{}
	}
	return v
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Float32, reflect.Float64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Interface, reflect.Pointer:
		return v.IsZero()
	}
	return false
}

// pointerTo is a pointer to v, or to a copy of it.
func pointerTo(v reflect.Value) any {
	if v.CanAddr() {
		return v.Addr().Interface()
	}
	c := reflect.New(v.Type())
	c.Elem().Set(v)
	return c.Interface()
}
