package codec

import (
	"bytes"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A frame appended whole is the frame built by its parts, whatever the lengths that its varints hold.
func TestAppendWatchFrame(t *testing.T) {
	gvk := schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	for _, size := range []int{0, 1, 60, 100, 120, 127, 128, 200, 16 << 10, 17 << 10, 1 << 20} {
		value, before := bytes.Repeat([]byte{7}, size), []byte("before")
		want := append(before[:6:6], WatchFrame("MODIFIED", ObjectBody(gvk, value, 12345))...)
		if got := AppendWatchFrame(before, "MODIFIED", gvk, value, 12345); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: frames differ", size)
		}
	}
}

func TestEncodeTo(t *testing.T) {
	cm := configMap()
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	for _, a := range []Accepted{{Media: JSON}, {Media: JSON, Pretty: true}, {Media: YAML}, {Media: Protobuf}} {
		want, err := Encode(cm, gvk, a)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := EncodeTo(&got, cm, gvk, a); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%v: %v, %s", a, err, got.Bytes())
		}
	}
}

func configMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default", UID: "0b8bd1b5-3a5c-4f0a-9ef4-3f4c1a5d2e10", CreationTimestamp: metav1.Unix(1_700_000_000, 0)},
		Data:       map[string]string{"a": strings.Repeat("x", 1024), "html": "<&>"},
	}
}

func BenchmarkEncodeJSON(b *testing.B) {
	cm, gvk, a := configMap(), schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Accepted{Media: JSON}
	b.Run("Encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Encode(cm, gvk, a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("EncodeTo", func(b *testing.B) {
		b.ReportAllocs()
		var buf bytes.Buffer
		for b.Loop() {
			buf.Reset()
			if err := EncodeTo(&buf, cm, gvk, a); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	cm, gvk := configMap(), schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	for _, media := range []string{JSON, Protobuf} {
		body, err := Encode(cm.DeepCopy(), gvk, Accepted{Media: media})
		if err != nil {
			b.Fatal(err)
		}
		for _, s := range []Strictness{Ignore, Warn} {
			b.Run(media[len("application/"):]+"/"+string(s), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Decode(body, media, gvk, &corev1.ConfigMap{}, s); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkWatchFrame(b *testing.B) {
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	value, err := Marshal(configMap())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var buf bytes.Buffer
	for b.Loop() {
		buf.Reset()
		buf.Write(AppendWatchFrame(buf.AvailableBuffer(), "MODIFIED", gvk, value, 123456))
	}
}
