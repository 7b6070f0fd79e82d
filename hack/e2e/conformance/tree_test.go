package conformance

import (
	"fmt"
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// tree reads YAML of an object or of a part of one.
func (r *row) tree(text string) map[string]any {
	r.Helper()
	out := map[string]any{}
	r.must(yaml.Unmarshal([]byte(text), &out), "reading "+text)
	return out
}

// merge puts part over the object o, as a JSON merge patch does (RFC 7386).
func merge(o, part map[string]any) {
	for key, value := range part {
		sub, isMap := value.(map[string]any)
		if old, was := o[key].(map[string]any); isMap && was {
			merge(old, sub)
		} else if value == nil {
			delete(o, key)
		} else {
			o[key] = value
		}
	}
}

// merged is a copy of all parts over each other.
func merged(parts ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, p := range parts {
		merge(out, (&unstructured.Unstructured{Object: maps.Clone(p)}).DeepCopy().Object)
	}
	return out
}

// has ends the test unless all of part is in the object o.
func (r *row) has(doing string, o *unstructured.Unstructured, part map[string]any) {
	r.Helper()
	if lack := lacking("", o.Object, part); lack != "" {
		r.Fatalf("%s: %s; the object is %s", doing, lack, asJSON(o))
	}
}

// lacking tells the first place where got has not what want has, empty if none: of maps all keys that want has, of lists as many
// elements, each having what its fellow has, everything else equal.
func lacking(path string, got, want any) string {
	switch want := want.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %s, want %s", path, asJSON(got), asJSON(want))
		}
		for key, w := range want {
			if lack := lacking(path+"."+key, m[key], w); lack != "" {
				return lack
			}
		}
	case []any:
		l, ok := got.([]any)
		if !ok || len(l) != len(want) {
			return fmt.Sprintf("%s is %s, want %s", path, asJSON(got), asJSON(want))
		}
		for i, w := range want {
			if lack := lacking(fmt.Sprintf("%s[%d]", path, i), l[i], w); lack != "" {
				return lack
			}
		}
	default:
		if !reflect.DeepEqual(got, want) {
			return fmt.Sprintf("%s is %s, want %s", path, asJSON(got), asJSON(want))
		}
	}
	return ""
}
