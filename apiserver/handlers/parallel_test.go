package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/storage"
)

var configMaps = registry.Define(registry.Kind[*corev1.ConfigMap]{Version: "v1", Kind: "ConfigMap", Plural: "configmaps", Namespaced: true})

func entries(t testing.TB, n int) []*storage.Entry {
	out := make([]*storage.Entry, n)
	for i := range out {
		value, err := codec.Marshal(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("a", i), Namespace: "default", UID: "0b8bd1b5-3a5c-4f0a-9ef4-3f4c1a5d2e10", CreationTimestamp: metav1.Unix(1_700_000_000, 0)},
			Data:       map[string]string{"a": strings.Repeat("x", 1024)},
		})
		if err != nil {
			t.Fatal(err)
		}
		out[i] = &storage.Entry{Key: storage.Key{Namespace: "default", Name: fmt.Sprint("a", i)}, Revision: int64(i + 1), Value: value}
		out[i].Forget() // as the entries of a list are, but for the latest
	}
	return out
}

// The items of a list come in its order, each once, however many pieces they are made in.
func TestItemsJSON(t *testing.T) {
	v := &view{res: configMaps, a: codec.Accepted{Media: codec.JSON}}
	for _, n := range []int{0, 1, pieceItems - 1, pieceItems, pieceItems + 1, 10*pieceItems + 7} {
		var out bytes.Buffer
		out.WriteByte('[')
		if err := v.itemsJSON(entries(t, n), out.Write); err != nil {
			t.Fatal(err)
		}
		out.WriteByte(']')
		var got []corev1.ConfigMap
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%d items: %v", n, err)
		}
		if len(got) != n {
			t.Fatalf("%d items became %d", n, len(got))
		}
		for i := range got {
			if want := fmt.Sprint("a", i); got[i].Name != want || got[i].ResourceVersion != fmt.Sprint(i+1) {
				t.Fatalf("item %d of %d is %s at %s", i, n, got[i].Name, got[i].ResourceVersion)
			}
		}
	}
}

func TestItemsJSONErrors(t *testing.T) {
	v := &view{res: configMaps, a: codec.Accepted{Media: codec.JSON}}
	broken := entries(t, 5*pieceItems)
	broken[3*pieceItems].Value = []byte{0xff}
	if err := v.itemsJSON(broken, io.Discard.Write); err == nil {
		t.Error("an item that cannot be read is no error")
	}
	gone, calls := errors.New("gone"), 0
	err := v.itemsJSON(entries(t, 20*pieceItems), func([]byte) (int, error) { calls++; return 0, gone })
	if !errors.Is(err, gone) || calls != 1 {
		t.Errorf("a client that is gone: %v after %d writes", err, calls)
	}
	panics := *configMaps
	panics.ToServed = func(registry.Object) registry.Object { panic("on purpose") }
	if err := (&view{res: &panics, a: v.a}).itemsJSON(entries(t, 1), io.Discard.Write); err == nil || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("a panic: %v", err)
	}
}

func BenchmarkItemsJSON(b *testing.B) {
	v := &view{res: configMaps, a: codec.Accepted{Media: codec.JSON}}
	all := entries(b, 10_000)
	b.Run("in pieces", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := v.itemsJSON(all, io.Discard.Write); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one by one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if p := v.piece(all); p.err != nil {
				b.Fatal(p.err)
			}
		}
	})
}
