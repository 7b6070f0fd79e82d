package patch

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

func TestMerge(t *testing.T) {
	for _, c := range []struct{ name, doc, patch, want string }{
		// Appendix A of RFC 7386, those of objects.
		{"replace", `{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{"add", `{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{"remove", `{"a":"b"}`, `{"a":null}`, `{}`},
		{"remove one of two", `{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{"array by string", `{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{"string by array", `{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{"deep", `{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{"array of objects", `{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{"null stays", `{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{"object by object in nothing", `{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		// More.
		{"an object where none was", `{"a":[1,"x"]}`, `{"a":{"b":1,"c":null}}`, `{"a":{"b":1}}`},
		{"nulls in an array", `{}`, `{"a":[null,{"b":null}]}`, `{"a":[null,{"b":null}]}`},
		{"escaped names", `{"a\u003cb":1,"q\"":2}`, `{"a<b":3,"q\"":null}`, `{"a\u003cb":3}`},
		{"braces in strings", `{"a":"}]\\\"{[","b":{"c":"\\"}}`, `{"b":{"d":1}}`, `{"a":"}]\\\"{[","b":{"c":"\\","d":1}}`},
		{"white space", " { \"a\" : { \"b\" : 1 } ,\n \"c\" : [ 1 , 2 ] } ", ` {"a":{"x":2}} `, `{"a":{"b":1,"x":2},"c":[ 1 , 2 ]}`},
		{"nothing", `{"a":1}`, `{}`, `{"a":1}`},
		{"empty", `{}`, `{}`, `{}`},
	} {
		got, _, err := merge([]byte(c.doc), []byte(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
	for _, patch := range []string{``, `[]`, `1`, `null`, `{`, `{"a":}`, `{"a":1}x`, `{"a":nul}`} {
		if got, _, err := merge([]byte(`{"a":1}`), []byte(patch)); err == nil {
			t.Errorf("patch %q is taken: %s", patch, got)
		}
	}
	for _, doc := range []string{`{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":"`, `{"a":"\`, `{a:1}`, `{"a":]}`, `{"a":,}`} {
		if got, _, err := merge([]byte(doc), []byte(`{"b":1}`)); err == nil {
			t.Errorf("document %q is taken: %s", doc, got)
		}
	}
}

// What a patch says twice is told, the last counts.
func TestMergeTwice(t *testing.T) {
	got, twice, err := merge([]byte(`{"a":{"b":1}}`), []byte(`{"a":{"b":2,"c":{"d":1,"d":2},"b":3},"a\u0062":1,"ab":2}`))
	if want := `{"a":{"b":3,"c":{"d":2}},"ab":2}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if want := []string{`duplicate field "a.c.d"`, `duplicate field "a.b"`, `duplicate field "ab"`}; !slices.Equal(twice, want) {
		t.Errorf("got %q, want %q", twice, want)
	}
}

// A patch is read once and not nested deeper than JSON may be.
func TestMergeDeep(t *testing.T) {
	nested := func(depth int) []byte {
		return []byte(strings.Repeat(`{"a":`, depth) + `1` + strings.Repeat(`}`, depth))
	}
	if got, _, err := merge(nested(9_000), nested(9_000)); err != nil || len(got) != len(nested(9_000)) {
		t.Errorf("deep: %d bytes, %v", len(got), err)
	}
	if _, _, err := merge(nested(1), nested(10_001)); err == nil || !strings.Contains(err.Error(), "exceeded max depth") {
		t.Errorf("too deep: got %v", err)
	}
}

// Whatever is merged is JSON and what another implementation makes of it (which drops nulls from arrays).
func FuzzMerge(f *testing.F) {
	f.Add(`{"a":{"b":"c"},"d":[1,{"e":2}]}`, `{"a":{"b":null,"x":{"y":1}},"d":"z"}`)
	f.Add(`{"a\u003c":"\\\"","":1}`, `{"a<":null,"":{"":""}}`)
	f.Fuzz(func(t *testing.T, doc, patch string) {
		var o map[string]any
		if json.Unmarshal([]byte(doc), &o) != nil || o == nil {
			if got, _, err := merge([]byte(doc), []byte(patch)); err == nil && json.Valid([]byte(doc)) && !json.Valid(got) {
				t.Fatalf("no JSON: %s", got)
			}
			return
		}
		got, _, err := merge([]byte(doc), []byte(patch))
		if err != nil {
			return
		}
		var g, w any
		if err := json.Unmarshal(got, &g); err != nil {
			t.Fatalf("no JSON: %s", got)
		}
		want, err := jsonpatch.MergePatch([]byte(doc), []byte(patch))
		if err != nil || strings.Contains(patch, "[") || repeats(doc) {
			return
		}
		if err := json.Unmarshal(want, &w); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(g, w) {
			t.Fatalf("%s with %s: %s, another makes %s", doc, patch, got, want)
		}
	})
}

// repeats says whether a document may name a member twice, which our own encoding never does.
func repeats(doc string) bool {
	var o any
	if json.Unmarshal([]byte(doc), &o) != nil {
		return true
	}
	again, err := json.Marshal(o)
	return err != nil || strings.Count(string(again), ":") != strings.Count(doc, ":")
}

func BenchmarkMerge(b *testing.B) {
	doc := []byte(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"default","uid":"0b8bd1b5-3a5c-4f0a-9ef4-3f4c1a5d2e10",` +
		`"resourceVersion":"123456","creationTimestamp":"2026-01-01T00:00:00Z"},"data":{"a":"` + strings.Repeat("x", 1024) + `"}}`)
	patch := []byte(`{"data":{"a":"` + strings.Repeat("y", 1024) + `"}}`)
	for _, c := range []struct {
		name  string
		merge func(doc, patch []byte) ([]byte, error)
	}{{"ours", func(doc, patch []byte) ([]byte, error) { b, _, err := merge(doc, patch); return b, err }}, {"evanphx", jsonpatch.MergePatch}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.merge(doc, patch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
