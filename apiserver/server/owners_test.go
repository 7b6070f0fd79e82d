package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func testOwners(t *testing.T, a *api) {
	ns := a.namespace(t)
	maps := fmt.Sprintf(cmPath, ns)
	m := a.must(t, 201, "POST", maps+"?fieldManager=maker", `{"metadata":{"name":"a","labels":{"x":"1"}},"data":{"k":"1","l":"1"}}`)
	expectOwned(t, m, "maker", `Update/ {"f:data":{".":{},"f:k":{},"f:l":{}},"f:metadata":{"f:labels":{".":{},"f:x":{}}}}`)

	m = a.must(t, 200, "PATCH", maps+"/a", `{"data":{"k":"2","l":null}}`, "Content-Type", "application/merge-patch+json", "User-Agent", "prog/1.0 (linux)")
	expectOwned(t, m, "prog", `Update/ {"f:data":{"f:k":{}}}`)
	expectOwned(t, m, "maker", `Update/ {"f:data":{},"f:metadata":{"f:labels":{".":{},"f:x":{}}}}`)

	// A PUT that changes nothing is none, also by somebody else.
	rv := at(m, "metadata.resourceVersion")
	delete(m["metadata"].(map[string]any), "managedFields")
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	m = a.must(t, 200, "PUT", maps+"/a?fieldManager=other", string(b))
	if at(m, "metadata.resourceVersion") != rv {
		t.Error("a PUT of what is there was written")
	}
	expectOwned(t, m, "other", "")
	expectOwned(t, a.must(t, 200, "GET", maps+"/a", ""), "prog", `Update/ {"f:data":{"f:k":{}}}`)
	if r := a.do(t, "POST", maps+"?fieldManager="+strings.Repeat("x", 129), `{"metadata":{"name":"b"}}`); r.code != 422 ||
		r.status.Message != `CreateOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes` {
		t.Errorf("a long manager: %d %s", r.code, r.status.Message)
	}
	if r := a.do(t, "PUT", maps+"/a?fieldManager=a%0Ab", string(b)); r.code != 422 || !strings.Contains(r.status.Message, "invalid character U+000A (at position 1)") {
		t.Errorf("an unprintable manager: %d %s", r.code, r.status.Message)
	}
}

func testResetOwners(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	a.must(t, 201, "POST", path+"?fieldManager=m", `{"metadata":{"name":"a"},"data":{"k":"1"}}`)
	bad := a.must(t, 200, "PATCH", path+"/a?fieldManager=m", `{"metadata":{"managedFields":[{"manager":"x","operation":"Nonsense"}]},"data":{"k":"2"}}`, "Content-Type", "application/merge-patch+json")
	expectOwned(t, bad, "m", `Update/ {"f:data":{".":{},"f:k":{}}}`)
	m := a.must(t, 200, "PATCH", path+"/a", `[{"op":"replace","path":"/metadata/managedFields","value":[{}]}]`, "Content-Type", "application/json-patch+json")
	if at(m, "metadata.managedFields") != nil {
		t.Errorf("got %v", at(m, "metadata.managedFields"))
	}
	// Nobody is noted until somebody applies; what was there before is then somebody's.
	m = a.must(t, 200, "PATCH", path+"/a?fieldManager=m", `{"data":{"k":"3"}}`, "Content-Type", "application/merge-patch+json")
	if at(m, "metadata.managedFields") != nil {
		t.Errorf("got %v", at(m, "metadata.managedFields"))
	}
	m = a.mustApply(t, 200, path+"/a", "n", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"l":"1"}}`)
	expectOwned(t, m, "before-first-apply", `Update/ {"f:data":{".":{},"f:k":{}}}`)
	expectOwned(t, m, "n", `Apply/ {"f:data":{"f:l":{}}}`)
}

func testManyManagers(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	m := a.must(t, 201, "POST", path+"?fieldManager=m00", `{"metadata":{"name":"a"},"data":{"k00":"1"}}`)
	for i := 1; i < 13; i++ {
		m = a.must(t, 200, "PATCH", fmt.Sprintf("%s/a?fieldManager=m%02d", path, i), fmt.Sprintf(`{"data":{"k%02d":"1"}}`, i), "Content-Type", "application/merge-patch+json")
	}
	entries, _ := at(m, "metadata.managedFields").([]any)
	if len(entries) != 10 {
		t.Errorf("%d managers", len(entries))
	}
	if got := owned(t, m, "ancient-changes"); !strings.HasPrefix(got, `Update/ {"f:data":{`) {
		t.Errorf("ancient changes: %s", got)
	}
}

func testApplySecondVersion(t *testing.T, a *api) {
	ns := a.namespace(t)
	v1, v2 := "/apis/autoscaling/v1/namespaces/"+ns+"/horizontalpodautoscalers/h", "/apis/autoscaling/v2/namespaces/"+ns+"/horizontalpodautoscalers/h"
	config := `{"apiVersion":"autoscaling/%s","kind":"HorizontalPodAutoscaler","metadata":{"name":"h"},"spec":{"maxReplicas":%d,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"}}}`
	m := a.mustApply(t, 201, v1, "m", fmt.Sprintf(config, "v1", 3))
	if at(m, "metadata.managedFields.0.apiVersion") != "autoscaling/v1" {
		t.Errorf("got %v", at(m, "metadata.managedFields"))
	}
	if r := a.apply(t, v2, "n", fmt.Sprintf(config, "v2", 4)); r.code != 409 || r.status.Message != `Apply failed with 1 conflict: conflict with "m": .spec.maxReplicas` {
		t.Errorf("got %d %s", r.code, r.status.Message)
	}
	m = a.must(t, 200, "PATCH", v2+"?fieldManager=u", `{"spec":{"maxReplicas":5}}`, "Content-Type", "application/merge-patch+json")
	expectOwned(t, m, "u", `Update/ {"f:spec":{"f:maxReplicas":{}}}`)
	if got := owned(t, m, "m"); strings.Contains(got, "maxReplicas") || !strings.Contains(got, "scaleTargetRef") {
		t.Errorf("m owns %s", got)
	}
}

func testApplyAtOnce(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns) + "/a"
	const writers = 8
	done := make(chan reply, writers)
	for i := range writers {
		go func() {
			done <- a.apply(t, path, fmt.Sprintf("m%d", i), fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k%d":"1"}}`, i))
		}()
	}
	made := 0
	for range writers {
		r := <-done
		if r.code == 201 {
			made++
		} else if r.code != 200 {
			t.Errorf("got %d %s", r.code, r.status.Message)
		}
	}
	m := a.must(t, 200, "GET", path, "")
	if data, _ := m["data"].(map[string]any); made != 1 || len(data) != writers {
		t.Errorf("made %d times, %v", made, m["data"])
	}
}

func testTwice(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns) + "/a"
	yaml := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v, k: w}\n"
	json := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v","k":"w"}}`
	for _, config := range []string{yaml, json} {
		if r := a.apply(t, path, "m&fieldValidation=Strict", config); r.code != 400 || !strings.Contains(r.status.Message, "strict decoding error") {
			t.Errorf("got %d %s", r.code, r.status.Message)
		}
	}
	if r := a.apply(t, path, "m", json); r.code != 201 || !strings.Contains(r.header.Get("Warning"), "duplicate field") {
		t.Errorf("got %d, warning %q", r.code, r.header.Get("Warning"))
	}
	for _, c := range [][2]string{
		{"application/merge-patch+json", `{"data":{"k":"1","k":"2"}}`}, {"application/strategic-merge-patch+json", `{"data":{"k":"1","k":"2"}}`},
		{"application/json-patch+json", `[{"op":"add","path":"/data","value":{"k":"1"},"path":"/data"}]`},
	} {
		if r := a.do(t, "PATCH", path+"?fieldValidation=Strict", c[1], "Content-Type", c[0]); r.code != 400 || !strings.Contains(r.status.Message, "duplicate field") {
			t.Errorf("%s: got %d %s", c[0], r.code, r.status.Message)
		}
	}
}

func testPatchLimits(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	a.must(t, 201, "POST", path, `{"metadata":{"name":"a"},"data":{"k":"`+strings.Repeat("x", 1000)+`"}}`)
	deep := strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)
	ops := "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"ConfigMap"},`, 10_000) + `{"op":"test","path":"/kind","value":"ConfigMap"}]`
	var copies strings.Builder
	for i := range 14 { // each doubles what is there
		fmt.Fprintf(&copies, `{"op":"copy","from":"/data","path":"/data/c%d"},`, i)
	}
	for _, c := range []struct {
		name, media, body string
		code              int
	}{
		{"deep merge patch", "application/merge-patch+json", deep, 400}, {"deep strategic patch", "application/strategic-merge-patch+json", deep, 400},
		{"deep JSON patch", "application/json-patch+json", `[{"op":"add","path":"/data","value":` + deep + `}]`, 400},
		{"deep apply", applyYAML, deep, 400}, {"too many operations", "application/json-patch+json", ops, 413},
		{"too many copies", "application/json-patch+json", "[" + copies.String() + `{"op":"test","path":"/kind","value":"ConfigMap"}]`, 413},
		{"failing test", "application/json-patch+json", `[{"op":"test","path":"/kind","value":"Secret"}]`, 422},
		{"too large a body", "application/merge-patch+json", `{"data":{"k":"` + strings.Repeat("x", 3<<20) + `"}}`, 413},
	} {
		query := ""
		if c.media == applyYAML {
			query = "?fieldManager=m"
		}
		if r := a.do(t, "PATCH", path+"/a"+query, c.body, "Content-Type", c.media); r.code != c.code {
			t.Errorf("%s: got %d %.200s, want %d", c.name, r.code, r.status.Message, c.code)
		}
	}
}
