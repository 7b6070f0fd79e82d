package resources

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"pilothouse.dev/apiserver/registry"
)

// Every kind must live through its functions with an empty object, and say of it what it says of any.
func TestEveryKindTakesAnEmptyObject(t *testing.T) {
	for _, r := range Table {
		t.Run(r.GVK.String(), func(t *testing.T) {
			served := r.New()
			served.SetName("a")
			obj := hub(r, served)
			h := r.Hub
			h.Default(obj)
			h.BeforeCreate(obj)
			h.Validate(obj)
			h.Warn(obj, nil)
			old := obj.DeepCopyObject().(registry.Object)
			h.BeforeUpdate(obj, old)
			h.BeforeStatus(obj, old)
			if errs := h.ValidateUpdate(obj, old); len(errs) > 0 {
				t.Errorf("an unchanged object is refused: %v", errs)
			}
			h.Warn(obj, old)
			h.TTL(obj)
			if h.Grace != nil {
				h.Grace(obj, nil)
				h.Grace(obj, &metav1.DeleteOptions{})
			}
			if h.Fields != nil {
				got, want := sets.KeySet(h.Fields(obj)), sets.New(h.FieldNames...)
				if !got.Equal(want) {
					t.Errorf("Fields gives %v, FieldNames says %v", sets.List(got), sets.List(want))
				}
			}
			for _, name := range r.FieldNames {
				stored := name
				if r.FieldToStored != nil {
					stored = r.FieldToStored(name)
				}
				if !sets.New(h.FieldNames...).Has(stored) {
					t.Errorf("field %s is stored as %s, which there is not", name, stored)
				}
			}
			if cells := r.Cells(served); len(cells) != len(r.Columns) {
				t.Errorf("%d cells for %d columns", len(cells), len(r.Columns))
			}
			if h.ScaleGet != nil {
				h.ScaleSet(obj, 7)
				if n := h.ScaleGet(obj).Spec.Replicas; n != 7 {
					t.Errorf("scaled to 7, have %d", n)
				}
			}
		})
	}
}

// What the server fills in it must not fill in again: a read object sent back unchanged is unchanged.
func TestDefaultingTwiceChangesNothing(t *testing.T) {
	for _, r := range Table {
		t.Run(r.GVK.String(), func(t *testing.T) {
			fill := filler(t)
			for range 100 {
				served := r.New()
				fill.Fill(served)
				obj := hub(r, served)
				r.Hub.Default(obj)
				again := obj.DeepCopyObject()
				r.Hub.Default(again.(registry.Object))
				if !apiequality.Semantic.DeepEqual(obj, again) {
					t.Fatalf("changed by the second defaulting:\n%s", diff.Diff(obj, again))
				}
				r.Hub.Validate(obj) // must not panic on anything
				r.Hub.ValidateStatus(obj, again.(registry.Object))
				r.Hub.ValidateUpdate(obj, again.(registry.Object))
				r.Cells(served)
			}
		})
	}
}

// A further version must lose nothing on the way to the stored form and back.
func TestVersionsKeepEverything(t *testing.T) {
	for _, r := range Table {
		if r.Hub == r {
			continue
		}
		t.Run(r.GVK.String(), func(t *testing.T) {
			fill := filler(t)
			for range 100 {
				served := r.New()
				fill.Fill(served)
				back := r.ToServed(r.FromServed(served))
				served.GetObjectKind().SetGroupVersionKind(back.GetObjectKind().GroupVersionKind())
				if !apiequality.Semantic.DeepEqual(served, back) {
					t.Fatalf("lost on the way:\n%s", diff.Diff(served, back))
				}
			}
		})
	}
}

func TestTableNamesEachKindOnce(t *testing.T) {
	scheme := everyType(t)
	seen := map[string]bool{}
	short := map[string]string{}
	for _, r := range Table {
		if seen[r.GVR().String()] {
			t.Errorf("%s stands twice", r.GVR())
		}
		seen[r.GVR().String()] = true
		if kinds, _, err := scheme.ObjectKinds(r.New()); err != nil || kinds[0] != r.GVK {
			t.Errorf("%s is %v in the scheme (%v)", r.GVK, kinds, err)
		}
		for _, s := range r.Short {
			if other := short[s]; other != "" && other != r.Plural {
				t.Errorf("%s is short for %s and %s", s, other, r.Plural)
			}
			short[s] = r.Plural
		}
		if strings.ToLower(r.Plural) != r.Plural {
			t.Errorf("%s is not in lower case", r.Plural)
		}
	}
}

// everyType knows what the published packages say of their types, also of those that clients' schemes do not hold.
func everyType(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func hub(r *registry.Resource, served registry.Object) registry.Object {
	if r.FromServed == nil {
		return served
	}
	return r.FromServed(served)
}
