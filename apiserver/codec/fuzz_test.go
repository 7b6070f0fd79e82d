package codec

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// decodable are the types that FuzzDecode reads into.
var decodable = []struct {
	gvk schema.GroupVersionKind
	new func() Object
}{
	{corev1.SchemeGroupVersion.WithKind("Pod"), func() Object { return &corev1.Pod{} }},
	{appsv1.SchemeGroupVersion.WithKind("ControllerRevision"), func() Object { return &appsv1.ControllerRevision{} }},
	{apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"), func() Object { return &apiextensionsv1.CustomResourceDefinition{} }},
}

// FuzzDecode reads bodies in every form. What can be read can be written and read again, and is then the same.
func FuzzDecode(f *testing.F) {
	full := pod()
	full.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}}
	revision := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Data: runtime.RawExtension{Raw: []byte(`{"a":[1,2.5,"x",null]}`)}}
	crd := &apiextensionsv1.CustomResourceDefinition{Spec: apiextensionsv1.CustomResourceDefinitionSpec{Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
		Name: "v1", Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
			Items:   &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}},
			Default: &apiextensionsv1.JSON{Raw: []byte(`{"a":1}`)},
		}}}}}}
	for i, obj := range []runtime.Object{full, revision, crd} {
		for m, media := range Media {
			b, err := Encode(obj, decodable[i].gvk, Accepted{Media: media})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, uint8(m), uint8(i), uint8(m))
		}
	}
	f.Add([]byte(`{"kind":"Pod","spec":{"containers":[{"resources":{"limits":{"cpu":"1e3","memory":1.5}}}],"containers":[]},"x":1}`), uint8(0), uint8(0), uint8(2))
	f.Add([]byte("a: &a [*a]"), uint8(1), uint8(0), uint8(0))
	f.Add([]byte("k8s\x00\x0a\x10"), uint8(2), uint8(0), uint8(0))
	f.Add([]byte(selfDescribed+"\xbf\x61a\x9f\xff\xff"), uint8(3), uint8(0), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, media, kind, s uint8) {
		m := Media[int(media)%len(Media)]
		k := decodable[int(kind)%len(decodable)]
		_, _ = PeekKind(b, m)
		obj := k.new()
		if _, err := Decode(b, m, k.gvk, obj, []Strictness{Ignore, Warn, Strict}[int(s)%3]); err != nil {
			if !apierrors.IsBadRequest(err) {
				t.Fatalf("%v", err)
			}
			return
		}
		// The stored form first: it has no place for what only JSON can say (an empty list beside none).
		value, err := Marshal(obj)
		if err != nil {
			return // text that is no UTF-8, a time out of range
		}
		stored := k.new()
		if err := Unmarshal(value, 7, stored); err != nil {
			t.Fatalf("reading what was stored: %v", err)
		}
		again, err := Marshal(stored)
		if err != nil {
			t.Fatalf("storing it again: %v", err)
		}
		third := k.new()
		if err := Unmarshal(again, 7, third); err != nil || !equality.Semantic.DeepEqual(stored, third) {
			t.Fatalf("it became another: %v\n%v\n%v", err, stored, third)
		}
	})
}
