package codec

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A plan says how the protobuf of one Go type becomes its JSON: its fields in the order of JSON, each with its number on the wire. It
// is read once from the struct's tags, the same that the generated decoders and encoding/json were made from, so that the two
// ways give the same bytes (TestTranscode, over all kinds). What a plan does not know is decoded and encoded by the type itself.
type plan struct {
	fields  []planField
	numbers []int16 // index of a field by its number on the wire, plus one; 0: unknown
	broken  bool    // the type can have none after all; others that it contains may point here
}

type planField struct {
	key     []byte // `"name":`; nil for an inline struct
	number  int
	kind    planKind
	keep    bool // print also when it is empty
	zero    bool // of a time: leave out when it is zero
	many    bool // a slice
	pointer bool
	bits    int            // of an int
	of      *plan          // of a struct
	value   *planField     // of a map
	custom  func() decoder // what knows itself
}

// decoder is a type that reads its own protobuf and writes its own JSON.
type decoder interface{ Unmarshal([]byte) error }

type planKind uint8

const (
	planString planKind = iota
	planBool
	planInt
	planUint
	planBytes
	planStruct
	planInline
	planMap
	planTime
	planIntOrString
	planFields // metav1.FieldsV1
	planCustom
	planObjectMeta // of the object itself: its resourceVersion is not in it
)

var (
	timeType  = reflect.TypeFor[metav1.Time]()
	typeMeta  = reflect.TypeFor[metav1.TypeMeta]()
	marshaler = reflect.TypeFor[json.Marshaler]()
	decoding  = reflect.TypeFor[decoder]()
)

// Transcoder makes the JSON of stored objects of one kind without making the objects. Safe for concurrent use.
type Transcoder struct {
	head []byte // an object up to its metadata
	root *plan
}

// TranscoderFor returns the one for objects of the type that make makes, shown as gvk; nil, which refuses all, when that type is
// none for plans. The type of a gvk is always the same.
func TranscoderFor[T runtime.Object](gvk schema.GroupVersionKind, make func() T) *Transcoder {
	return transcoderOf(gvk, func() reflect.Type { return reflect.TypeOf(make()) })
}

// transcoderOf remembers what it made: a plan follows from a type alone, so all may share it.
var transcoderOf = remember(newTranscoder)

func remember(build func(schema.GroupVersionKind, reflect.Type) *Transcoder) func(schema.GroupVersionKind, func() reflect.Type) *Transcoder {
	var known sync.Map // schema.GroupVersionKind → *Transcoder
	return func(gvk schema.GroupVersionKind, of func() reflect.Type) *Transcoder {
		if t, ok := known.Load(gvk); ok {
			return t.(*Transcoder)
		}
		t := build(gvk, of())
		known.Store(gvk, t)
		return t
	}
}

func newTranscoder(gvk schema.GroupVersionKind, of reflect.Type) *Transcoder {
	if of.Kind() != reflect.Pointer || of.Elem().Kind() != reflect.Struct || !of.Implements(decoding) || of.Implements(marshaler) {
		return nil
	}
	root := compiler{}.plan(of.Elem())
	if root == nil || !root.own() {
		return nil
	}
	return &Transcoder{head: []byte(`{"kind":` + strconv.Quote(gvk.Kind) + `,"apiVersion":` + strconv.Quote(apiVersion(gvk))), root: root}
}

// own marks the object's own metadata; false when there is none where it should be.
func (p *plan) own() bool {
	for i := range p.fields {
		f := &p.fields[i]
		if f.number == fieldMetadata && f.kind == planStruct && !f.many && !f.pointer {
			f.kind = planObjectMeta
			return true
		}
	}
	return false
}

// compiler makes plans; types that contain themselves find the plan that is being made.
type compiler map[reflect.Type]*plan

// plan is nil when a type cannot have one.
func (c compiler) plan(t reflect.Type) *plan {
	if p, ok := c[t]; ok {
		return p
	}
	p := &plan{}
	c[t] = p
	names := map[string]bool{}
	if !c.add(p, t, names) {
		c[t], p.broken = nil, true
		return nil
	}
	return p
}

func (c compiler) add(p *plan, t reflect.Type, names map[string]bool) bool {
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Type == typeMeta && sf.Anonymous {
			continue // never on the wire; the object's own is the head
		}
		tag := sf.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if !sf.IsExported() || tag == "-" {
			continue
		}
		number, ok := wireNumber(sf.Tag.Get("protobuf"))
		if !ok {
			return false
		}
		f := planField{number: number}
		empty, zero := strings.Contains(options, "omitempty"), strings.Contains(options, "omitzero")
		f.keep = !empty && !zero
		inline := sf.Anonymous && name == ""
		switch {
		case strings.Contains(options, "string"), name == "" && !inline:
			return false
		case inline:
			if sf.Type.Kind() != reflect.Struct || reflect.PointerTo(sf.Type).Implements(marshaler) {
				return false
			}
			if f.kind, f.of = planInline, c.plan(sf.Type); f.of == nil || !c.names(f.of, names) {
				return false
			}
		default:
			if names[name] || !c.field(&f, sf.Type) {
				return false
			}
			names[name] = true
			f.key = []byte(strconv.Quote(name) + ":")
			if zero && !f.many && !f.pointer && f.kind >= planStruct && f.kind != planMap {
				if f.kind != planTime {
					return false // whether it is zero only the type itself can say
				}
				f.zero = true
			}
			if !f.many && !f.pointer && f.kind >= planStruct && f.kind != planMap {
				f.keep = true // encoding/json calls no struct empty
			}
		}
		p.put(f)
	}
	return true
}

// names takes the names of an inline struct; false when one is there already.
func (c compiler) names(p *plan, names map[string]bool) bool {
	for _, f := range p.fields {
		if f.kind == planInline {
			if !c.names(f.of, names) {
				return false
			}
			continue
		}
		name := string(f.key[1 : len(f.key)-2])
		if names[name] {
			return false
		}
		names[name] = true
	}
	return true
}

func (p *plan) put(f planField) {
	for len(p.numbers) <= f.number {
		p.numbers = append(p.numbers, 0)
	}
	p.fields = append(p.fields, f)
	p.numbers[f.number] = int16(len(p.fields))
}

// field settles what a field of type t is; false when nothing here fits.
func (c compiler) field(f *planField, t reflect.Type) bool {
	switch {
	case t.Kind() == reflect.Pointer:
		f.pointer = true
		t = t.Elem()
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8 && !reflect.PointerTo(t).Implements(decoding):
		f.many = true
		t = t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		return false
	}
	self, known := reflect.PointerTo(t).Implements(decoding), reflect.PointerTo(t).Implements(marshaler)
	switch {
	case t == timeType:
		f.kind = planTime
	case t == reflect.TypeFor[intstr.IntOrString]():
		f.kind = planIntOrString
	case t == reflect.TypeFor[metav1.FieldsV1]():
		f.kind = planFields
	case t == reflect.TypeFor[resource.Quantity]():
		f.kind, f.custom = planCustom, func() decoder { return &resource.Quantity{} }
	case self && (known || t.Kind() != reflect.Struct):
		f.kind, f.custom = planCustom, func() decoder { return reflect.New(t).Interface().(decoder) }
		return f.pointer || t.Kind() == reflect.Struct // an absent one of another kind is empty in its own way
	case known || reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()):
		return false
	case t.Kind() == reflect.Struct:
		f.kind = planStruct
		if f.of = c.plan(t); f.of == nil {
			if !self {
				return false
			}
			f.kind, f.custom = planCustom, func() decoder { return reflect.New(t).Interface().(decoder) }
		}
	case t.Kind() == reflect.String:
		f.kind = planString
	case t.Kind() == reflect.Bool:
		f.kind = planBool
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		f.kind, f.bits = planInt, t.Bits()
	case t.Kind() == reflect.Uint32 || t.Kind() == reflect.Uint64:
		f.kind, f.bits = planUint, t.Bits()
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && !f.many && !f.pointer:
		f.kind = planBytes
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && !f.many && !f.pointer && !t.Key().Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()):
		f.kind, f.value = planMap, &planField{keep: true}
		if !c.field(f.value, t.Elem()) || f.value.many || f.value.pointer || f.value.kind == planMap {
			return false
		}
	default:
		return false
	}
	return true
}

// wireNumber reads a struct's tag: «bytes,3,opt,name=…».
func wireNumber(tag string) (int, bool) {
	wire, rest, _ := strings.Cut(tag, ",")
	number, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(number)
	return n, err == nil && n > 0 && n < 1<<12 && (wire == "bytes" || wire == "varint")
}
