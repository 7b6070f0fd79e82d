package codec

import (
	"bytes"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
)

// selfDescribed opens every CBOR body (RFC 8949 section 3.4.6).
const selfDescribed = "\xd9\xd9\xf7"

// CBORBody is the CBOR of anything that has JSON tags, ready to be a body or an object inside an event.
func CBORBody(v any) ([]byte, error) {
	b, err := direct.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append([]byte(selfDescribed), b...), nil
}

// CBOREvent is one item of a watch's sequence; object is a CBORBody.
func CBOREvent(event string, object []byte) ([]byte, error) {
	return CBORBody(&metav1.WatchEvent{Type: event, Object: runtime.RawExtension{Raw: object}})
}

// CBORList assembles a list of n items, asked for one by one. Keys stand in the order that deterministic encoding demands
// (RFC 8949 section 4.2).
func CBORList(gvk schema.GroupVersionKind, meta metav1.ListMeta, n int, item func(i int) (any, error)) ([]byte, error) {
	var out bytes.Buffer
	put := func(vs ...any) error {
		for _, v := range vs {
			b, err := direct.Marshal(v)
			if err != nil {
				return err
			}
			out.Write(b)
		}
		return nil
	}
	out.WriteString(selfDescribed)
	out.WriteByte(0xa4) // a map of four
	if err := put("kind", gvk.Kind, "items"); err != nil {
		return nil, err
	}
	out.Write([]byte{0x9a, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) // an array of n
	for i := range n {
		v, err := item(i)
		if err != nil {
			return nil, err
		}
		if err := put(v); err != nil {
			return nil, err
		}
	}
	err := put("metadata", meta, "apiVersion", apiVersion(gvk))
	return out.Bytes(), err
}

// decodeCBOR reads a body into an object, whose type is then what the body says, and tells unknown fields unless they are to be
// ignored. (A key twice in one map is no CBOR at all.)
func decodeCBOR(body []byte, gvk schema.GroupVersionKind, into runtime.Object, s Strictness) (unknown []error, err error) {
	one := oneType{gvk, into}
	_, _, err = cbor.NewSerializer(one, one, cbor.Strict(s != Ignore)).Decode(body, &gvk, into)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		return strict.Errors(), nil
	}
	return nil, err
}

// bare is an object that is nothing but its type.
type bare struct {
	metav1.TypeMeta `json:",inline"`
}

func (b *bare) DeepCopyObject() runtime.Object { c := *b; return &c }

func peekCBOR(body []byte) (schema.GroupVersionKind, error) {
	b := &bare{}
	if _, err := decodeCBOR(body, schema.GroupVersionKind{Version: "v1", Kind: "Any"}, b, Ignore); err != nil {
		return schema.GroupVersionKind{}, err
	}
	return b.GroupVersionKind(), nil
}

// oneType tells the library's decoder that there is one type only.
type oneType struct {
	gvk schema.GroupVersionKind
	obj runtime.Object
}

func (o oneType) New(schema.GroupVersionKind) (runtime.Object, error) { return o.obj, nil }
func (o oneType) ObjectKinds(runtime.Object) ([]schema.GroupVersionKind, bool, error) {
	return []schema.GroupVersionKind{o.gvk}, false, nil
}
func (o oneType) Recognizes(schema.GroupVersionKind) bool { return true }
