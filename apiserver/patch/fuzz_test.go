package patch

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// FuzzApply tries patches of every kind on a pod: what comes out is JSON, or an error that is the client's.
func FuzzApply(f *testing.F) {
	const doc = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"a":"b"},"finalizers":["x/y"]},"spec":{"containers":[` +
		`{"name":"a","image":"i","ports":[{"containerPort":80,"protocol":"TCP"}]},{"name":"b"}],"tolerations":[{"key":"k"}],"nodeSelector":{"x":"y"}}}`
	for kind, patches := range [][]string{
		{`[{"op":"add","path":"/spec/containers/-","value":{"name":"c"}},{"op":"remove","path":"/metadata/labels/a"},{"op":"test","path":"/kind","value":"Pod"}]`,
			`[{"op":"move","from":"/spec/containers/0","path":"/spec/containers/1"},{"op":"copy","from":"/metadata","path":"/spec"}]`,
			`[{"op":"replace","path":"","value":null}]`, `[{"op":"add","path":"/spec/containers/99999999999","value":1}]`, `[{"op":"remove","path":"/a~2b/~1"}]`, `[{}]`, `[null]`},
		{`{"metadata":{"labels":null},"spec":{"containers":[]}}`, `null`, `[]`, `{"a":{"b":{"c":null}}}`, `"x"`},
		{`{"spec":{"containers":[{"name":"a","$patch":"delete"},{"name":"c","image":"x"}],"$setElementOrder/containers":[{"name":"c"},{"name":"b"}]}}`,
			`{"spec":{"$patch":"replace","containers":[{"name":"z"}]}}`, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["x/y"],"finalizers":["n"]}}`,
			`{"spec":{"$retainKeys":["containers"],"containers":[{"name":"a","ports":[{"containerPort":80,"$patch":"merge"}]}]}}`,
			`{"$patch":"delete"}`, `{"$patch":1}`, `{"spec":{"containers":{"name":"a"}}}`, `{"spec":{"containers":[1]}}`, `{"$setElementOrder/spec":1}`},
	} {
		for _, p := range patches {
			f.Add(uint8(kind), doc, p)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, doc, p string) {
		var pod corev1.Pod
		if json.Unmarshal([]byte(doc), &pod) != nil {
			return // what is patched is always an object of ours
		}
		old, err := json.Marshal(pod)
		if err != nil {
			return
		}
		out, _, err := Apply(Types[int(kind)%3], old, []byte(p), &corev1.Pod{}, true)
		if err != nil {
			if s, ok := err.(apierrors.APIStatus); !ok || s.Status().Code < 400 || s.Status().Code >= 500 {
				t.Fatalf("%v", err)
			}
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q", out)
		}
	})
}
