// Package kindtest proves what a kind says of objects, for the tests of the rooms below resources. Objects are written as YAML
// and go through the kind's functions in the order of the write path. Where a base is given, an object is written as what
// differs from it (a JSON merge patch, RFC 7396), so that each case shows only what it is about.
package kindtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"pilothouse.dev/apiserver/registry"
)

// Case is one object, and what is wrong with it.
type Case struct {
	Name string
	Diff string // what differs from the base, as YAML
	Old  string // for an update: what the old object's difference from the base is; «{}» for the base itself
	Want []string
}

// Create runs each case as a new object. Want holds «path: type» of every error, sorted.
func Create(t *testing.T, r *registry.Resource, base string, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			obj := New(t, r, base, c.Diff)
			r.BeforeCreate(obj)
			errs := r.ValidateMeta(obj)
			compare(t, append(errs, r.Validate(obj)...), c.Want)
		})
	}
}

// Update runs each case as an update of an old object.
func Update(t *testing.T, r *registry.Resource, base string, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			obj, old := pair(t, r, base, c)
			if r.HasStatus {
				registry.KeepStatus(obj, old)
			}
			r.BeforeUpdate(obj, old)
			errs := r.ValidateMetaUpdate(obj, old)
			errs = append(errs, r.Validate(obj)...)
			compare(t, append(errs, r.ValidateUpdate(obj, old)...), c.Want)
		})
	}
}

// Status runs each case as an update of an old object's status.
func Status(t *testing.T, r *registry.Resource, base string, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			obj, old := pair(t, r, base, c)
			registry.KeepAllButStatus(obj, old)
			r.BeforeStatus(obj, old)
			compare(t, append(r.ValidateMetaUpdate(obj, old), r.ValidateStatus(obj, old)...), c.Want)
		})
	}
}

// New is a defaulted object of the kind's stored version. What base and diff do not say of its name and namespace is «a».
func New(t *testing.T, r *registry.Resource, base, diff string) registry.Object {
	t.Helper()
	obj := Parse(t, r, base, diff)
	r.Default(obj)
	return obj
}

// Parse is New without defaulting.
func Parse(t *testing.T, r *registry.Resource, base, diff string) registry.Object {
	t.Helper()
	text, err := json.Marshal(merge(parse(t, base), parse(t, diff)))
	if err != nil {
		t.Fatal(err)
	}
	obj := r.New()
	if err := yaml.UnmarshalStrict(text, obj); err != nil {
		t.Fatalf("reading a %s: %v\n%s", r.GVK.Kind, err, text)
	}
	if obj.GetName() == "" {
		obj.SetName("a")
	}
	if r.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace("a")
	}
	return obj
}

// Cells are the columns of an object by name.
func Cells(r *registry.Resource, obj registry.Object) map[string]string {
	out := map[string]string{}
	for i, v := range r.Cells(obj) {
		out[r.Columns[i].Name] = fmt.Sprint(v)
	}
	return out
}

// Shows checks some columns of an object.
func Shows(t *testing.T, r *registry.Resource, obj registry.Object, want map[string]string) {
	t.Helper()
	got := Cells(r, obj)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[name]; !ok || v != want[name] {
			t.Errorf("%s shows %q, want %q (of %v)", name, v, want[name], got)
		}
	}
}

// Brief is errors as «path: type», sorted.
func Brief(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Type.String())
	}
	slices.Sort(out)
	return out
}

func pair(t *testing.T, r *registry.Resource, base string, c Case) (obj, old registry.Object) {
	t.Helper()
	obj, old = New(t, r, base, c.Diff), New(t, r, base, c.Old)
	for _, o := range []metav1.Object{obj, old} {
		o.SetResourceVersion("1")
		o.SetUID("u")
	}
	return obj, old
}

func compare(t *testing.T, errs field.ErrorList, want []string) {
	t.Helper()
	if got := Brief(errs); !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("got %q, want %q\n%v", got, want, errs.ToAggregate())
	}
}

func parse(t *testing.T, text string) any {
	t.Helper()
	var out any
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("reading YAML: %v\n%s", err, text)
	}
	return out
}

// merge applies a merge patch: maps are merged, null removes, everything else replaces.
func merge(base, diff any) any {
	if diff == nil {
		return base
	}
	d, ok := diff.(map[string]any)
	if !ok {
		return diff
	}
	b, _ := base.(map[string]any)
	out := maps.Clone(b)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range d {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = merge(out[k], v)
		}
	}
	return out
}
