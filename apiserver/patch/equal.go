package patch

import (
	"bytes"
	"encoding/json"
	"reflect"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// equal says whether two values that are both there look alike as JSON.
func equal(p *plan, a, b reflect.Value) bool {
	if same(a, b) {
		return true
	}
	a, b = follow(a), follow(b)
	if null(a) || null(b) {
		return null(a) && null(b)
	}
	switch p.shape {
	case plain:
		return equalPlain(a, b)
	case opaque:
		return equalOpaque(a, b)
	case dynamic:
		return reflect.DeepEqual(anyOf(p, a), anyOf(p, b))
	case record:
		for i := range p.fields {
			m := &p.fields[i]
			x, y := m.get(a), m.get(b)
			if x.IsValid() != y.IsValid() || x.IsValid() && !equal(m.plan, x, y) {
				return false
			}
		}
		return true
	case mapping:
		if a.Len() != b.Len() {
			return false
		}
		for it := a.MapRange(); it.Next(); {
			y := b.MapIndex(it.Key())
			if !y.IsValid() || !equal(p.elem, it.Value(), y) {
				return false
			}
		}
		return true
	}
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if !equal(p.elem, a.Index(i), b.Index(i)) {
			return false
		}
	}
	return true
}

func equalPlain(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.String:
		return a.String() == b.String()
	case reflect.Bool:
		return a.Bool() == b.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return a.Int() == b.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return a.Uint() == b.Uint()
	case reflect.Float32, reflect.Float64:
		return a.Float() == b.Float()
	case reflect.Slice:
		return bytes.Equal(a.Bytes(), b.Bytes())
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// equalOpaque compares by the JSON form; the commonest types know a quicker way.
func equalOpaque(a, b reflect.Value) bool {
	x, y := pointerTo(a), pointerTo(b)
	switch x := x.(type) {
	case *metav1.Time:
		y := y.(*metav1.Time)
		return x.IsZero() == y.IsZero() && x.Unix() == y.Unix()
	case *metav1.MicroTime:
		y := y.(*metav1.MicroTime)
		return x.IsZero() == y.IsZero() && x.UnixMicro() == y.UnixMicro()
	case *resource.Quantity:
		y := y.(*resource.Quantity)
		return *x == *y || x.String() == y.String()
	case *intstr.IntOrString:
		y := y.(*intstr.IntOrString)
		return *x == *y || x.Type == y.Type && x.String() == y.String()
	}
	i, err := json.Marshal(x)
	j, err2 := json.Marshal(y)
	return err == nil && err2 == nil && bytes.Equal(i, j)
}

// anyOf is what a dynamic value holds; nil when it holds nothing or no JSON.
func anyOf(_ *plan, v reflect.Value) any {
	if !v.IsValid() || null(v) {
		return nil
	}
	b, err := json.Marshal(pointerTo(v))
	if err != nil {
		return nil
	}
	var out any
	if json.Unmarshal(b, &out) != nil {
		return nil
	}
	return out
}
