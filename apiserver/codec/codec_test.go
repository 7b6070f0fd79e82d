package codec

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", Namespace: "b", UID: "u", Labels: map[string]string{"x": "y", "z": ""},
			CreationTimestamp: metav1.NewTime(time.Unix(1700000000, 0)), Annotations: map[string]string{"n": "ü"},
		},
		Spec:   corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// TestServedProtobuf proves the shortcut of decision 4: what is appended to stored bytes is read back by the library every
// client uses.
func TestServedProtobuf(t *testing.T) {
	s := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	want := pod()
	value, err := Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, rev := range []int64{1, 9, 10, 99, 123456789, 1 << 62} {
		body := ObjectBody(corev1.SchemeGroupVersion.WithKind("Pod"), value, rev)
		obj, _, err := s.Decode(body, nil, nil)
		if err != nil {
			t.Fatalf("revision %d: %v", rev, err)
		}
		got := obj.(*corev1.Pod)
		w := want.DeepCopy()
		w.ResourceVersion, w.TypeMeta = got.ResourceVersion, got.TypeMeta
		if !equality.Semantic.DeepEqual(got, w) {
			t.Errorf("revision %d: got %s", rev, got)
		}
		if got.ResourceVersion == "" || objectSize(value, rev) != len(AppendObject(nil, value, rev)) {
			t.Errorf("revision %d: resourceVersion %q, size %d", rev, got.ResourceVersion, objectSize(value, rev))
		}
	}
}

func TestServedList(t *testing.T) {
	s := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	value, err := Marshal(pod())
	if err != nil {
		t.Fatal(err)
	}
	left := int64(7)
	msg := ListHead(42, "next", &left)
	size := len(msg)
	for rev := int64(40); rev < 43; rev++ {
		size += ItemSize(value, rev)
		msg = AppendItem(msg, value, rev)
	}
	if size != len(msg) {
		t.Errorf("ItemSize sums to %d, the list has %d bytes", size, len(msg))
	}
	kind := corev1.SchemeGroupVersion.WithKind("PodList")
	for name, body := range map[string][]byte{
		"whole": Envelope(kind, msg), "streamed": append(EnvelopeHead(kind, len(msg)), msg...),
	} {
		obj, _, err := s.Decode(body, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		l := obj.(*corev1.PodList)
		if len(l.Items) != 3 || l.Items[2].ResourceVersion != "42" || l.ResourceVersion != "42" || l.Continue != "next" || *l.RemainingItemCount != 7 {
			t.Errorf("%s: got %d items, %+v", name, len(l.Items), l.ListMeta)
		}
	}
}

func TestPartialMessage(t *testing.T) {
	value, err := Marshal(pod())
	if err != nil {
		t.Fatal(err)
	}
	meta, err := PartialMessage(value)
	if err != nil {
		t.Fatal(err)
	}
	var p metav1.PartialObjectMetadata
	if err := p.Unmarshal(AppendObject(nil, meta, 5)); err != nil {
		t.Fatal(err)
	}
	if p.Name != "a" || p.Labels["x"] != "y" || p.ResourceVersion != "5" {
		t.Errorf("got %+v", p.ObjectMeta)
	}
}

func TestLabelsScan(t *testing.T) {
	for name, labels := range map[string]map[string]string{
		"none": nil, "some": {"a": "b", "c": "", "long": strings.Repeat("x", 300)},
	} {
		o := pod()
		o.Labels = labels
		value, err := Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Labels(value)
		if err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(map[string]string(got), labels) {
			t.Errorf("%s: got %v, want %v", name, got, labels)
		}
	}
}

func FuzzLabelsScan(f *testing.F) {
	value, err := Marshal(pod())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add([]byte(`{"metadata":{"labels":{"a":"b"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		// No panic, and never slower than the bytes are long.
		_, _ = Labels(b)
		_, _ = PartialMessage(b)
	})
}

func TestStoredFormHasNoRevision(t *testing.T) {
	o := pod()
	o.ResourceVersion = "77"
	value, err := Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if o.ResourceVersion != "77" || bytes.Contains(value, []byte("77")) {
		t.Errorf("object %q, value %q", o.ResourceVersion, value)
	}
	back := &corev1.Pod{}
	if err := Unmarshal(value, 9, back); err != nil || back.ResourceVersion != "9" {
		t.Errorf("got %q, %v", back.ResourceVersion, err)
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		accept string
		want   Accepted
		ok     bool
	}{
		{"", Accepted{Media: JSON}, true},
		{"*/*", Accepted{Media: JSON}, true},
		{"application/json", Accepted{Media: JSON}, true},
		{"application/yaml", Accepted{Media: YAML}, true},
		{"application/vnd.kubernetes.protobuf,application/json", Accepted{Media: Protobuf}, true},
		{"application/vnd.kubernetes.protobuf;q=0.5, application/json;q=0.9", Accepted{Media: JSON}, true},
		{"application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Accepted{Media: JSON, As: Table}, true},
		{"application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Accepted{Media: Protobuf, As: PartialList}, true},
		{"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Accepted{Media: JSON, As: Partial}, true},
		{"application/json;as=Table;v=v1beta1;g=meta.k8s.io", Accepted{}, false},
		{"application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json;q=0.2", Accepted{Media: JSON}, true},
		{"application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io;q=0.1", Accepted{Media: JSON, As: Table}, true},
		{"application/json;as=Thing;v=v1;g=meta.k8s.io", Accepted{}, false},
		{"application/json;g=meta.k8s.io;v=v1", Accepted{}, false},
		{"application/json;stream=watch", Accepted{Media: JSON}, true},
		{"application/json;stream=log", Accepted{}, false},
		{"application/cbor", Accepted{Media: CBOR}, true},
		{"application/cbor-seq,application/json;q=0.9", Accepted{Media: CBOR}, true},
		{"application/cbor;as=Table;v=v1;g=meta.k8s.io", Accepted{}, false},
		{"application/json;pretty=1", Accepted{Media: JSON, Pretty: true}, true},
		{"application/json;q=0", Accepted{}, false},
		{"application/json;q=NaN,application/yaml;q=0.1", Accepted{Media: YAML}, true},
		{"application/json;q=0, */*;q=0.3", Accepted{Media: JSON}, true},
		{"application/yaml;q=0.5,application/json;q=0.5", Accepted{Media: YAML}, true},
		{"application/json;as=Table;v=v2;g=meta.k8s.io", Accepted{}, false},
		{"text/html", Accepted{}, false},
		{"image/png,*/*;q=0.1", Accepted{Media: JSON}, true},
		{";;;", Accepted{}, false},
	} {
		r, err := http.NewRequest(http.MethodGet, "/api/v1/pods", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", c.accept)
		if got, ok := Negotiate(r, true); got != c.want || ok != c.ok {
			t.Errorf("%q: got %+v %v, want %+v %v", c.accept, got, ok, c.want, c.ok)
		}
	}
}

func TestPrettyAndGzip(t *testing.T) {
	for _, c := range []struct {
		query, agent, accept, encoding string
		pretty, gzip                   bool
	}{
		{"", "kubectl/v1.37", "", "gzip", false, true},
		{"", "curl/8", "", "", true, false},
		{"", "Wget/1", "", "deflate, gzip;q=0.5", true, true},
		{"", "Mozilla/5.0 (X11)", "text/html,*/*;q=0.8", "gzip, br", true, true},
		{"pretty=false", "curl/8", "", "gzip;q=0", false, false},
		{"pretty=true", "x", "", "gzip;q=nan", true, false},
		{"pretty=1", "x", "", "identity", true, false},
		{"pretty=", "curl/8", "", "*", true, false},
		{"pretty=maybe", "curl/8", "", " GZIP ", false, false},
		{"pretty=true", "x", "application/yaml", "xgzip", false, false},
	} {
		r, err := http.NewRequest(http.MethodGet, "/api/v1/pods?"+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"User-Agent": c.agent, "Accept": c.accept, "Accept-Encoding": c.encoding} {
			r.Header.Set(k, v)
		}
		if got, ok := Negotiate(r, true); !ok || got.Pretty != c.pretty || got.Gzip != c.gzip {
			t.Errorf("%+v: got %+v %v", c, got, ok)
		}
	}
}

// TestCBOR holds our CBOR against the library that clients read and write it with.
func TestCBOR(t *testing.T) {
	s := cbor.NewSerializer(scheme.Scheme, scheme.Scheme)
	want := pod()
	want.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}}
	gvk := corev1.SchemeGroupVersion.WithKind("Pod")
	body, err := Encode(want, gvk, Accepted{Media: CBOR})
	if err != nil {
		t.Fatal(err)
	}
	obj, _, err := s.Decode(body, nil, nil)
	if err != nil || !equality.Semantic.DeepEqual(obj, want) {
		t.Errorf("encoded: %v, %+v", err, obj)
	}
	got := &corev1.Pod{}
	if _, err := Decode(body, CBOR, gvk, got, Strict); err != nil {
		t.Fatal(err)
	}
	got.SetGroupVersionKind(gvk)
	if !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("decoded: %+v", got)
	}
	if kind, err := PeekKind(body, CBOR); err != nil || kind != gvk {
		t.Errorf("peeked: %v %v", kind, err)
	}
	list, err := CBORList(gvk.GroupVersion().WithKind("PodList"), metav1.ListMeta{ResourceVersion: "5", Continue: "c"}, 300,
		func(int) (any, error) { return want, nil })
	if err != nil {
		t.Fatal(err)
	}
	if obj, _, err = s.Decode(list, nil, nil); err != nil {
		t.Fatal(err)
	}
	if l := obj.(*corev1.PodList); len(l.Items) != 300 || l.ResourceVersion != "5" || l.Continue != "c" || !equality.Semantic.DeepEqual(&l.Items[7], want) {
		t.Errorf("list: %d items, %+v", len(l.Items), l.ListMeta)
	}
	event, err := CBOREvent("ADDED", body)
	if err != nil {
		t.Fatal(err)
	}
	var e metav1.WatchEvent
	if err := direct.Unmarshal(event, &e); err != nil || e.Type != "ADDED" || !bytes.Equal(e.Object.Raw, body) {
		t.Errorf("event: %v %+v", err, e)
	}
	unknown, err := direct.Marshal(map[string]any{"kind": "Pod", "apiVersion": "v1", "nope": 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(unknown, CBOR, gvk, &corev1.Pod{}, Strict); err == nil || !strings.Contains(err.Error(), "strict decoding error") {
		t.Errorf("unknown field, strict: %v", err)
	}
	if w, err := Decode(unknown, CBOR, gvk, &corev1.Pod{}, Warn); err != nil || len(w) != 1 {
		t.Errorf("unknown field, warn: %v %v", w, err)
	}
}

// TestNesting sends bodies that are deeper than any stack, in every form.
func TestNesting(t *testing.T) {
	crd := schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
	deep := func(levels int) []byte { // a schema in a schema in a schema …
		b := []byte{}
		for range levels { // JSONSchemaProps{16 items{1 schema}}, inside out
			inner := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
			b = protowire.AppendBytes(protowire.AppendTag(nil, 16, protowire.BytesType), inner)
		}
		for _, field := range []protowire.Number{1, 7, 2, 4, 2} { // openAPIV3Schema, schema of versions of spec, near enough
			b = protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
		}
		return Envelope(crd, b)
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	for _, c := range []struct {
		name, media string
		body        []byte
		gvk         schema.GroupVersionKind
		into        runtime.Object
		err         string
	}{
		{"JSON", JSON, []byte(strings.Repeat(`{"a":`, 600000)), corev1.SchemeGroupVersion.WithKind("Pod"), &corev1.Pod{}, "exceeded max depth"},
		{"JSON arrays", JSON, []byte(`{"spec":` + strings.Repeat(`[`, 3<<20)), corev1.SchemeGroupVersion.WithKind("Pod"), &corev1.Pod{}, "exceeded max depth"},
		{"YAML", YAML, []byte("a: " + strings.Repeat(`[`, 100000)), corev1.SchemeGroupVersion.WithKind("Pod"), &corev1.Pod{}, "exceeded max depth"},
		{"YAML aliases", YAML, []byte(bomb), corev1.SchemeGroupVersion.WithKind("Pod"), &corev1.Pod{}, "excessive aliasing"},
		{"CBOR", CBOR, []byte(selfDescribed + strings.Repeat("\x81", 3<<20)), corev1.SchemeGroupVersion.WithKind("Pod"), &corev1.Pod{}, "exceeded max nested level"},
		{"protobuf", Protobuf, deep(20000), crd, &apiextensionsv1.CustomResourceDefinition{}, "exceeded max depth"},
		{"protobuf, not so deep", Protobuf, deep(200), crd, &apiextensionsv1.CustomResourceDefinition{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(c.body, c.media, c.gvk, c.into, Strict)
			if c.err == "" && err == nil {
				return
			}
			if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %.300v", err)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	deployment := appsv1.SchemeGroupVersion.WithKind("Deployment")
	for _, c := range []struct {
		name, body, media string
		s                 Strictness
		err               string
		warn              string
	}{
		{"json", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"}}`, JSON, Strict, "", ""},
		{"no kind", `{"metadata":{"name":"x"}}`, JSON, Strict, "", ""},
		{"yaml", "kind: Deployment\nmetadata:\n  name: x\n", YAML, Strict, "", ""},
		{"broken json", `{"metadata":`, JSON, Ignore, "cannot be handled as a Deployment", ""},
		{"broken yaml", "a: b: c", YAML, Ignore, "error converting YAML to JSON", ""},
		{"wrong kind", `{"kind":"Pod"}`, JSON, Ignore, "cannot be handled as a Deployment", ""},
		{"wrong version", `{"apiVersion":"apps/v2","kind":"Deployment"}`, JSON, Ignore, "does not match the expected API version (apps/v1)", ""},
		{"wrong type", `{"spec":{"replicas":"many"}}`, JSON, Ignore, "cannot be handled as a Deployment", ""},
		{"unknown, strict", `{"spec":{"foo":1}}`, JSON, Strict, `strict decoding error: unknown field "spec.foo"`, ""},
		{"unknown, warn", `{"spec":{"foo":1}}`, JSON, Warn, "", `unknown field "spec.foo"`},
		{"unknown, ignore", `{"spec":{"foo":1}}`, JSON, Ignore, "", ""},
		{"twice, strict", `{"spec":{"replicas":1,"replicas":2}}`, JSON, Strict, `strict decoding error: duplicate field "spec.replicas"`, ""},
		{"no protobuf", `{}`, Protobuf, Ignore, "does not appear to be a protobuf message", ""},
		{"no CBOR", `{}`, CBOR, Ignore, "cannot be handled as a Deployment", ""},
		{"cut protobuf", "k8s\x00\x0a\x10", Protobuf, Ignore, "decoding the protobuf envelope", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			warnings, err := Decode([]byte(c.body), c.media, deployment, &appsv1.Deployment{}, c.s)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got error %v, want %q", err, c.err)
			}
			if strings.Join(warnings, ";") != c.warn {
				t.Errorf("got warnings %q, want %q", warnings, c.warn)
			}
		})
	}
}
