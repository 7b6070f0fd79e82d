package codec

import (
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// transcodable are the kinds of FuzzTranscode; server.TestTranscode has all.
var transcodable = []struct {
	gvk schema.GroupVersionKind
	new func() Object
}{
	{corev1.SchemeGroupVersion.WithKind("Pod"), func() Object { return &corev1.Pod{} }},
	{corev1.SchemeGroupVersion.WithKind("Secret"), func() Object { return &corev1.Secret{} }},
	{appsv1.SchemeGroupVersion.WithKind("ControllerRevision"), func() Object { return &appsv1.ControllerRevision{} }},
	{corev1.SchemeGroupVersion.WithKind("Service"), func() Object { return &corev1.Service{} }},
}

// long is the JSON of stored bytes by way of an object.
func long(value []byte, revision int64, gvk schema.GroupVersionKind, obj Object) ([]byte, error) {
	if err := Unmarshal(value, revision, obj); err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return json.Marshal(obj)
}

// FuzzTranscode gives the short way bytes that nobody stored: whatever it takes, it makes what the long way makes.
func FuzzTranscode(f *testing.F) {
	full := pod()
	full.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:<x>":{}}}`)}}
	for i, obj := range []Object{
		full, &corev1.Secret{ObjectMeta: full.ObjectMeta, Data: map[string][]byte{"a": nil, "b": []byte("x")}},
		&appsv1.ControllerRevision{ObjectMeta: full.ObjectMeta, Data: runtime.RawExtension{Raw: []byte(`{"a": 1}`)}, Revision: -5},
		&corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1, TargetPort: intstr.FromString("a\x01<")}, {TargetPort: intstr.FromInt32(-1)}}}},
	} {
		value, err := Marshal(obj)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value, uint8(i))
	}
	f.Fuzz(func(t *testing.T, value []byte, kind uint8) {
		k := transcodable[int(kind)%len(transcodable)]
		got, ok := TranscoderFor(k.gvk, k.new).Append(nil, value, 42)
		if !ok {
			return
		}
		want, err := long(value, 42, k.gvk, k.new())
		if err != nil {
			return // the long way has more checks, on bytes that nobody stores
		}
		if string(got) != string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

// TestString holds strings of every length and place against encoding/json.
func TestString(t *testing.T) {
	for c := range 256 {
		for length := range 20 {
			for at := range length {
				s := []byte(strings.Repeat("x", length))
				s[at] = byte(c)
				for _, text := range []string{string(s), string(s) + "ü", string(s) + "\u2028"} {
					want, err := json.Marshal(text)
					if err != nil {
						t.Fatal(err)
					}
					if got := appendString(nil, []byte(text)); string(got) != string(want) {
						t.Fatalf("%q: got %s, want %s", text, got, want)
					}
				}
			}
		}
	}
}

func BenchmarkTranscode(b *testing.B) {
	full := pod()
	full.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", Operation: "Update", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:x":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{}}}}}`)}}
	value, err := Marshal(full)
	if err != nil {
		b.Fatal(err)
	}
	k := transcodable[0]
	b.Run("short", func(b *testing.B) {
		tr := TranscoderFor(k.gvk, k.new)
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = tr.Append(buf[:0], value, 42)
		}
	})
	b.Run("long", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := long(value, 42, k.gvk, k.new()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
