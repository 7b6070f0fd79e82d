package resources

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/randfill"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/pkg/api"
)

const rounds = 15 // random objects of a kind

// What a client sends it gets back: through JSON, defaulting, the stored form and protobuf nothing changes but what defaults fill
// in. Virtual kinds are not stored and go from JSON to protobuf and back only.
func TestRoundTrip(t *testing.T) {
	for _, r := range Table {
		t.Run(r.GVK.String(), func(t *testing.T) {
			fill := filler(t)
			for range rounds {
				sent := r.New()
				fill.Fill(sent)
				sent.SetResourceVersion("")
				got := decode(t, r, encode(t, r, sent, codec.JSON), codec.JSON)
				same(t, "read from JSON", sent, got)
				if r.Virtual {
					same(t, "read from protobuf", got, decode(t, r, encode(t, r, got, codec.Protobuf), codec.Protobuf))
					continue
				}
				stored := hub(r, got)
				r.Hub.Default(stored)
				onlyFilled(t, hub(r, sent), stored)

				value, err := codec.Marshal(stored)
				if err != nil {
					t.Fatal(err)
				}
				back := r.Hub.New()
				if err := codec.Unmarshal(value, 7, back); err != nil {
					t.Fatal(err)
				}
				onRead(r, back)
				stored.SetResourceVersion("7")
				same(t, "read from the store", stored, back)
				stable(t, r, back)

				answer := served(r, back)
				wire := encode(t, r, answer, codec.Protobuf)
				if r.Hub == r {
					wire = codec.ObjectBody(r.GVK, value, 7)
				}
				read := decode(t, r, wire, codec.Protobuf)
				onRead(r, read)
				same(t, "read from protobuf", answer, read)
				if a, b := encode(t, r, answer, codec.JSON), encode(t, r, read, codec.JSON); !bytes.Equal(a, b) {
					t.Fatalf("JSON differs:\n%s\n%s", a, b)
				}
			}
		})
	}
}

// stable checks that an object which was read and is written unchanged has the same bytes: by that the write path tells an
// update that changes nothing. (Empty bytes among a ConfigMap's data are nil after the first time.)
func stable(t *testing.T, r *registry.Resource, obj registry.Object) {
	t.Helper()
	a, err := codec.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	again := r.Hub.New()
	if err := codec.Unmarshal(a, 7, again); err != nil {
		t.Fatal(err)
	}
	if b, err := codec.Marshal(again); err != nil || !bytes.Equal(a, b) {
		t.Fatalf("stored again, its bytes are others (%v)", err)
	}
}

// onRead says again what protobuf has no room for: of which type objects inside objects are.
func onRead(r *registry.Resource, obj registry.Object) {
	if r == r.Hub && r.OnRead != nil {
		r.OnRead(obj)
	}
}

func served(r *registry.Resource, stored registry.Object) registry.Object {
	if r.ToServed == nil {
		return stored
	}
	out := r.ToServed(stored)
	out.SetResourceVersion(stored.GetResourceVersion())
	return out
}

func encode(t *testing.T, r *registry.Resource, obj registry.Object, media string) []byte {
	t.Helper()
	b, err := codec.Encode(obj, r.GVK, codec.Accepted{Media: media})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode(t *testing.T, r *registry.Resource, b []byte, media string) registry.Object {
	t.Helper()
	obj := r.New()
	warnings, err := codec.Decode(b, media, r.GVK, obj, codec.Strict)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("decoding: %v %v\n%s", err, warnings, b)
	}
	return obj
}

func same(t *testing.T, what string, want, got registry.Object) {
	t.Helper()
	kind := want.GetObjectKind().GroupVersionKind()
	got.GetObjectKind().SetGroupVersionKind(kind) // said beside the object, not by it
	if !apiequality.Semantic.DeepEqual(want, got) {
		t.Fatalf("%s it is another:\n%s", what, diff.Diff(want, got))
	}
}

// changed are the fields that defaulting may change although they are set, by a part of their paths, each with its reason.
var changed = map[string]string{
	"serviceAccount":               "the old name of serviceAccountName, and made to agree with it",
	"spec.podCIDR":                 "the first of podCIDRs",
	"spec.dataSourceRef.namespace": "not followed to other namespaces (alpha)",
	"spec.dataSource":              "emptied when it is of a kind that only dataSourceRef may name",
	"stringData":                   "write-only: it becomes data",
}

// onlyFilled checks that defaulting leaves alone what was said.
func onlyFilled(t *testing.T, before, after registry.Object) {
	t.Helper()
	a, b := tree(t, before), tree(t, after)
	var lost []string
	compare(a, b, "", &lost)
	for _, path := range lost {
		known := false
		for part := range changed {
			known = known || strings.Contains("."+path+".", "."+part+".")
		}
		if !known {
			t.Fatalf("%s is set, and defaulting changes it", path)
		}
	}
}

func tree(t *testing.T, obj registry.Object) any {
	t.Helper()
	b, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// compare notes the paths of values in a that are not the zero of their type and not the same in b.
func compare(a, b any, path string, lost *[]string) {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok && len(a) > 0 || path == "stringData" {
			*lost = append(*lost, path)
			return
		}
		for k := range a {
			compare(a[k], b[k], strings.TrimPrefix(path+"."+k, "."), lost)
		}
	case []any:
		b, _ := b.([]any)
		if len(b) < len(a) {
			*lost = append(*lost, path)
			return
		}
		for i := range a {
			compare(a[i], b[i], fmt.Sprintf("%s[%d]", path, i), lost)
		}
	default:
		if a != nil && !reflect.ValueOf(a).IsZero() && a != b {
			*lost = append(*lost, path)
		}
	}
}

// filler makes random objects, always the same ones: apimachinery's way, with what that leaves out (who manages which fields).
func filler(t *testing.T) *randfill.Filler {
	t.Helper()
	own := func(f any) fuzzer.FuzzerFuncs { return func(serializer.CodecFactory) []any { return []any{f} } }
	return fuzzer.FuzzerFor(fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs,
		own(func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(1e6), resource.DecimalSI)
		}),
		own(func(v *intstr.IntOrString, c randfill.Continue) {
			*v = intstr.FromInt32(c.Int31n(100))
			if c.Bool() {
				*v = intstr.FromString([]string{"10%", "http", "x"}[c.Intn(3)])
			}
		}),
		own(func(r *runtime.RawExtension, c randfill.Continue) {
			r.Raw = []byte(`{"a":` + fmt.Sprint(c.Intn(100)) + `}`)
		}),
		own(func(m *metav1.ManagedFieldsEntry, c randfill.Continue) {
			c.FillNoCustom(m)
			m.FieldsV1 = metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}`)
		}),
		own(func(s *apiextensionsv1.JSONSchemaProps, c randfill.Continue) { // one level of what may contain itself
			*s = apiextensionsv1.JSONSchemaProps{Description: c.String(0), Type: "object", Pattern: c.String(0)}
			if c.Bool() {
				s.Properties = map[string]apiextensionsv1.JSONSchemaProps{"a": {Type: "string", MaxLength: ptr.To(c.Int63())}}
				s.XListMapKeys = []string{c.String(0)}
				s.Default = &apiextensionsv1.JSON{Raw: []byte(`{"a":"b"}`)}
				s.Items = &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}}
				s.AdditionalProperties = &apiextensionsv1.JSONSchemaPropsOrBool{Allows: true, Schema: &apiextensionsv1.JSONSchemaProps{Type: "integer"}}
			}
		}),
	), rand.NewSource(1), api.Codecs).NumElements(0, 3)
}
