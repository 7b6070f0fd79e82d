package server_test

import (
	"encoding/json"
	"math/rand"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/resources"
)

// TestTranscode proves for every kind that the JSON made straight from stored bytes is the JSON of the decoded object, byte for
// byte, and that no kind of which there are many goes the long way.
func TestTranscode(t *testing.T) {
	own := func(serializer.CodecFactory) []any {
		return []any{
			func(q *resource.Quantity, c randfill.Continue) {
				*q = resource.MustParse([]string{"0", "1", "100m", "1Gi", "1e3", "2.5", "1500m", "12345678901234567890", "0.001Ki"}[c.Intn(9)])
			},
			func(v *intstr.IntOrString, c randfill.Continue) {
				if *v = intstr.FromInt32(int32(c.Uint32())); c.Bool() {
					*v = intstr.FromString(c.String(9))
				}
			},
			func(f *metav1.FieldsV1, c randfill.Continue) {
				f.SetRawString([]string{`{}`, `{"f:a":{".":{},"f:<b>":{}}}`, `{ "f:ä" : {} }`}[c.Intn(3)])
			},
			func(e *runtime.RawExtension, c randfill.Continue) {
				e.Raw = []byte([]string{`{"a":[1, "&"]}`, `null`, `"x"`}[c.Intn(3)])
			},
			func(m *metav1.Time, c randfill.Continue) {
				if *m = metav1.Unix(int64(c.Uint32()), 0); c.Intn(5) == 0 {
					*m = metav1.Time{}
				}
			},
			func(s *string, c randfill.Continue) {
				*s = c.String(12)
				if odd := []string{"", "<&>", "\u2028x", "a\"\\\n\t\x01\x7f", "wörter", "\xff"}; c.Intn(4) == 0 {
					*s = odd[c.Intn(5)]
				}
			},
		}
	}
	for _, res := range resources.Table {
		if res.Virtual || res.Hub != res && res.Hub != nil {
			continue
		}
		t.Run(res.GVK.Kind, func(t *testing.T) {
			tr := codec.TranscoderFor(res.GVK, res.New)
			fill := randfill.NewWithSeed(7).NilChance(0.4).NumElements(0, 3).MaxDepth(14).Funcs(
				fuzzer.MergeFuzzerFuncs(own)(serializer.CodecFactory{})...).RandSource(rand.NewSource(11))
			short := 0
			const rounds = 60
			for i := range rounds {
				obj := res.New()
				if i > 0 { // the first is empty
					fill.Fill(obj)
				}
				value, err := codec.Marshal(obj)
				if err != nil {
					continue
				}
				back := res.New()
				if err := codec.Unmarshal(value, int64(i+1)*7919, back); err != nil {
					t.Fatal(err)
				}
				back.GetObjectKind().SetGroupVersionKind(res.GVK)
				want, err := json.Marshal(back)
				if err != nil {
					continue
				}
				got, ok := tr.Append([]byte("x"), value, int64(i+1)*7919)
				if !ok {
					if string(got) != "x" {
						t.Fatal("a refused object left something behind")
					}
					continue
				}
				short++
				if string(got) != "x"+string(want) {
					at := 0
					for at < len(want) && at+1 < len(got) && got[at+1] == want[at] {
						at++
					}
					from := max(0, at-60)
					t.Fatalf("object %d differs at %d:\ngot  %.200s\nwant %.200s", i, at, got[1+from:], want[from:])
				}
			}
			if short < rounds*3/4 {
				t.Errorf("only %d of %d went the short way", short, rounds)
			}
		})
	}
}
