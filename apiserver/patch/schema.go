package patch

import (
	"fmt"
	"reflect"
	"sync"

	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// schemas makes the library's schema of a Go type out of its plan, when the first object of the kind is applied: what a type's
// fields are and how its lists merge is said in one place. Safe for concurrent use.
type schemas struct{ made sync.Map } // reflect.Type → *typed.ParseableType

// What may hold any JSON: its objects merge, or it is one value.
const (
	untyped    = "any"
	untypedOne = "any as one"
)

func (s *schemas) of(plans *plans, t reflect.Type) *typed.ParseableType {
	if found, ok := s.made.Load(t); ok {
		return found.(*typed.ParseableType)
	}
	m := schemaMaker{out: &schema.Schema{}, names: map[*plan]string{}}
	m.addUntyped()
	root := plans.whole(t)
	parser := &typed.ParseableType{TypeRef: m.ref(root), Schema: m.out}
	found, _ := s.made.LoadOrStore(t, parser)
	return found.(*typed.ParseableType)
}

type schemaMaker struct {
	out   *schema.Schema
	names map[*plan]string // of records, which may hold themselves
}

func named(name string) schema.TypeRef { return schema.TypeRef{NamedType: &name} }

// addUntyped declares the type that may be anything: its maps merge, its lists do not.
func (m *schemaMaker) addUntyped() {
	kind := schema.Untyped
	m.out.Types = append(m.out.Types,
		schema.TypeDef{Name: untyped, Atom: schema.Atom{
			Scalar: &kind,
			List:   &schema.List{ElementType: named(untypedOne), ElementRelationship: schema.Atomic},
			Map:    &schema.Map{ElementType: named(untyped), ElementRelationship: schema.Separable},
		}},
		schema.TypeDef{Name: untypedOne, Atom: schema.Atom{
			Scalar: &kind,
			List:   &schema.List{ElementType: named(untypedOne), ElementRelationship: schema.Atomic},
			Map:    &schema.Map{ElementType: named(untypedOne), ElementRelationship: schema.Atomic},
		}})
}

func (m *schemaMaker) ref(p *plan) schema.TypeRef {
	switch p.shape {
	case plain:
		kind := scalarKindOf(p.t)
		return schema.TypeRef{Inlined: schema.Atom{Scalar: &kind}}
	case opaque:
		kind := schema.Untyped
		return schema.TypeRef{Inlined: schema.Atom{Scalar: &kind}}
	case dynamic:
		if p.atomic {
			return named(untypedOne)
		}
		return named(untyped)
	case mapping:
		out := &schema.Map{ElementType: m.ref(p.elem), ElementRelationship: schema.Separable}
		if p.atomic {
			out.ElementRelationship = schema.Atomic
		}
		return schema.TypeRef{Inlined: schema.Atom{Map: out}}
	case sequence:
		out := &schema.List{ElementType: m.ref(p.elem), ElementRelationship: schema.Atomic}
		if !p.atomic {
			out.ElementRelationship = schema.Associative
			for _, k := range p.keys {
				out.Keys = append(out.Keys, k.name)
			}
		}
		return schema.TypeRef{Inlined: schema.Atom{List: out}}
	}
	name, known := m.names[p]
	if !known {
		name = fmt.Sprintf("%s.%s %d", p.t.PkgPath(), p.t.Name(), len(m.names))
		m.names[p] = name
		out := &schema.Map{ElementRelationship: schema.Separable}
		if p.atomic {
			out.ElementRelationship = schema.Atomic
		}
		for i := range p.fields {
			f := &p.fields[i]
			out.Fields = append(out.Fields, schema.StructField{Name: f.name, Type: m.ref(f.plan), Default: f.presetOrZero()})
		}
		m.out.Types = append(m.out.Types, schema.TypeDef{Name: name, Atom: schema.Atom{Map: out}})
	}
	return named(name)
}

// presetOrZero is what a field is when it is left out: its default, or zero where its JSON tag does not let it be left out.
func (m *member) presetOrZero() any {
	switch {
	case m.preset != nil || m.pointer || m.omitEmpty || m.omitZero != nil || m.plan.shape != plain:
		return m.preset
	case m.plan.t.Kind() == reflect.String:
		return ""
	case m.plan.t.Kind() == reflect.Bool:
		return false
	case m.plan.t.Kind() == reflect.Slice:
		return nil
	}
	return int64(0)
}

func scalarKindOf(t reflect.Type) schema.Scalar {
	switch t.Kind() {
	case reflect.String, reflect.Slice: // bytes are base64
		return schema.String
	case reflect.Bool:
		return schema.Boolean
	case reflect.Interface:
		return schema.Untyped
	}
	return schema.Numeric
}
