package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

const applyYAML = "application/apply-patch+yaml"

// TestApply proves server-side apply and the ownership of fields through the API.
func TestApply(t *testing.T) {
	c := testcluster.Start(t)
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"owners of ordinary writes", testOwners}, {"ask for it right", testApplyOptions}, {"create by apply", testApplyCreates},
		{"conflict and force", testConflict}, {"shared fields", testSharedFields}, {"removal", testRemoval}, {"lists by key", testListsByKey},
		{"status", testApplyStatus}, {"scale", testApplyScale}, {"dry run", testApplyDryRun}, {"from client-side apply", testMigration},
		{"defaults", testDefaultsUnowned}, {"no-op", testApplyNoOp}, {"reset", testResetOwners}, {"many managers", testManyManagers},
		{"second version", testApplySecondVersion}, {"at once", testApplyAtOnce}, {"fields twice", testTwice}, {"limits of patches", testPatchLimits},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
}

// apply sends a configuration; manager may have more parameters behind it.
func (a *api) apply(t *testing.T, path, manager, config string) reply {
	t.Helper()
	return a.do(t, "PATCH", path+"?fieldManager="+manager, config, "Content-Type", applyYAML)
}

func (a *api) mustApply(t *testing.T, code int, path, manager, config string) map[string]any {
	t.Helper()
	return a.must(t, code, "PATCH", path+"?fieldManager="+manager, config, "Content-Type", applyYAML)
}

// owned is what a manager owns of an object, as "operation/subresource fields"; empty: nothing.
func owned(t *testing.T, obj any, manager string) string {
	t.Helper()
	entries, _ := at(obj, "metadata.managedFields").([]any)
	var out []string
	for _, e := range entries {
		if at(e, "manager") != manager {
			continue
		}
		if at(e, "time") == nil || at(e, "fieldsType") != "FieldsV1" || at(e, "apiVersion") == nil {
			t.Errorf("entry is not whole: %v", e)
		}
		fields, err := json.Marshal(at(e, "fieldsV1"))
		if err != nil {
			t.Fatal(err)
		}
		sub, _ := at(e, "subresource").(string)
		out = append(out, fmt.Sprintf("%v/%s %s", at(e, "operation"), sub, fields))
	}
	return strings.Join(out, "; ")
}

func expectOwned(t *testing.T, obj any, manager, want string) {
	t.Helper()
	if got := owned(t, obj, manager); got != want {
		t.Errorf("%s owns\n %s\nwant\n %s", manager, got, want)
	}
}

const deployPath = "/apis/apps/v1/namespaces/%s/deployments"

func deployed(name, spec string) string {
	return `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"` + name + `"},"spec":{` + spec + `}}`
}

const podTemplate = `"selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i:1"}]}}`

func testApplyOptions(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns) + "/a"
	good := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`
	for _, c := range []struct {
		name, query, media, body string
		code                     int
		message                  string
	}{
		{"no manager", "", applyYAML, good, 422, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"},
		{"force without apply", "?force=true", "application/merge-patch+json", `{}`, 422, "force: Forbidden: may not be specified for non-apply patch"},
		{"no kind", "?fieldManager=m", applyYAML, `{"metadata":{"name":"a"}}`, 400, "invalid object type: /, Kind="},
		{"other kind", "?fieldManager=m", applyYAML, `{"apiVersion":"v1","kind":"Secret"}`, 400, "invalid object type: /v1, Kind=Secret"},
		{"other name", "?fieldManager=m", applyYAML, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}`, 400, "the name of the object (b) does not match the name on the URL (a)"},
		{"other namespace", "?fieldManager=m", applyYAML, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"x"}}`, 400, "does not match the namespace on the request"},
		{"managed fields", "?fieldManager=m", applyYAML, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","managedFields":[{"manager":"x"}]}}`, 400, "metadata.managedFields must be nil"},
		{"no YAML", "?fieldManager=m", applyYAML, "a: b: c", 400, "error decoding patch"},
		{"no object", "?fieldManager=m", applyYAML, "- a", 400, "error decoding patch"},
		{"unknown field", "?fieldManager=m", applyYAML, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"dta":{}}`, 400, ".dta: field not declared in schema"},
		{"uid of nothing", "?fieldManager=m", applyYAML, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","uid":"u"}}`, 409, "uid mismatch: the provided object specified uid u, and no existing object was found"},
		{"unknown media", "?fieldManager=m", "application/apply-patch+xml", good, 415, "application/apply-patch+yaml"},
		{"status of nothing", "", applyYAML, good, 422, "fieldManager"},
	} {
		if r := a.do(t, "PATCH", path+c.query, c.body, "Content-Type", c.media); r.code != c.code || !strings.Contains(r.status.Message, c.message) {
			t.Errorf("%s: got %d %s, want %d %s", c.name, r.code, r.status.Message, c.code, c.message)
		}
	}
	if r := a.do(t, "GET", path, ""); r.code != 404 {
		t.Errorf("something was made: %d", r.code)
	}
}

func testApplyCreates(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns) + "/a"
	m := a.mustApply(t, 201, path, "m", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: \"1\"}}\ndata: {k: v}\n")
	expectOwned(t, m, "m", `Apply/ {"f:data":{"f:k":{}},"f:metadata":{"f:labels":{"f:x":{}}}}`)
	if at(m, "metadata.uid") == nil || at(m, "metadata.namespace") != ns || at(m, "data.k") != "v" {
		t.Errorf("got %v", m)
	}
	m = a.mustApply(t, 200, path, "m", `{"apiVersion":"v1","kind":"ConfigMap","data":{"k":"w"}}`)
	if at(m, "metadata.labels") != nil || at(m, "data.k") != "w" {
		t.Errorf("got %v", m)
	}
	expectOwned(t, m, "m", `Apply/ {"f:data":{"f:k":{}}}`)
	if r := a.apply(t, "/api/v1/namespaces/nowhere/configmaps/a", "m", `{"apiVersion":"v1","kind":"ConfigMap"}`); r.code != 404 || !strings.Contains(r.status.Message, `namespaces "nowhere" not found`) {
		t.Errorf("in no namespace: %d %s", r.code, r.status.Message)
	}
	if r := a.apply(t, path, "m", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":"1"},"data":{"k":"x"}}`); r.code != 409 {
		t.Errorf("an old resourceVersion: %d %s", r.code, r.status.Message)
	}
	if r := a.apply(t, path, "m", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"uid":"other"},"data":{"k":"x"}}`); r.code != 409 {
		t.Errorf("another uid: %d %s", r.code, r.status.Message)
	}
}

func testConflict(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(deployPath, ns) + "/d"
	a.mustApply(t, 201, path, "first", deployed("d", `"replicas":2,`+podTemplate))
	r := a.apply(t, path, "second", deployed("d", `"replicas":3`))
	want := `Apply failed with 1 conflict: conflict with "first": .spec.replicas`
	if r.code != 409 || r.status.Message != want || r.status.Reason != "Conflict" || len(r.status.Details.Causes) != 1 {
		t.Fatalf("got %d %s %+v", r.code, r.status.Message, r.status.Details)
	}
	if c := r.status.Details.Causes[0]; c.Type != "FieldManagerConflict" || c.Field != ".spec.replicas" || c.Message != `conflict with "first"` {
		t.Errorf("cause %+v", c)
	}
	a.must(t, 200, "PATCH", path+"?fieldManager=third", `{"spec":{"replicas":4,"paused":true}}`, "Content-Type", "application/merge-patch+json")
	r = a.apply(t, path, "second", deployed("d", `"replicas":3,"paused":false`))
	if r.code != 409 || r.status.Message != "Apply failed with 2 conflicts: conflicts with \"third\" using apps/v1:\n- .spec.paused\n- .spec.replicas" {
		t.Errorf("got %d %q", r.code, r.status.Message)
	}
	m := a.mustApply(t, 200, path, "second&force=true", deployed("d", `"replicas":3`))
	if at(m, "spec.replicas") != 3.0 || at(m, "spec.paused") != true {
		t.Errorf("got %v", at(m, "spec"))
	}
	expectOwned(t, m, "second", `Apply/ {"f:spec":{"f:replicas":{}}}`)
	expectOwned(t, m, "third", `Update/ {"f:spec":{"f:paused":{}}}`)
}

func testSharedFields(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns) + "/a"
	config := func(data string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{` + data + `}}`
	}
	a.mustApply(t, 201, path, "one", config(`"a":"1","b":"1"`))
	m := a.mustApply(t, 200, path, "two", config(`"a":"1"`)) // agrees: both own it
	expectOwned(t, m, "one", `Apply/ {"f:data":{"f:a":{},"f:b":{}}}`)
	expectOwned(t, m, "two", `Apply/ {"f:data":{"f:a":{}}}`)
	m = a.mustApply(t, 200, path, "one", config(`"b":"1"`)) // gives it up: two has it still
	if at(m, "data.a") != "1" {
		t.Errorf("got %v", m["data"])
	}
	expectOwned(t, m, "one", `Apply/ {"f:data":{"f:b":{}}}`)
	m = a.mustApply(t, 200, path, "two", config(`"a":"2"`)) // transferred: no conflict
	if at(m, "data.a") != "2" {
		t.Errorf("got %v", m["data"])
	}
	m = a.mustApply(t, 200, path, "two", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`) // the last owner lets go
	if at(m, "data.a") != nil || at(m, "data.b") != "1" {
		t.Errorf("got %v", m["data"])
	}
	expectOwned(t, m, "two", "")
}

func testRemoval(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(deployPath, ns) + "/d"
	a.mustApply(t, 201, path, "m", deployed("d", `"replicas":2,"minReadySeconds":5,`+podTemplate))
	m := a.mustApply(t, 200, path, "m", deployed("d", podTemplate))
	if at(m, "spec.replicas") != 1.0 || at(m, "spec.minReadySeconds") != nil { // the default comes back
		t.Errorf("got %v", at(m, "spec"))
	}
	a.must(t, 200, "PATCH", path, `{"spec":{"minReadySeconds":7}}`, "Content-Type", "application/merge-patch+json")
	if m = a.mustApply(t, 200, path, "m", deployed("d", podTemplate)); at(m, "spec.minReadySeconds") != 7.0 {
		t.Errorf("another's field is gone: %v", at(m, "spec"))
	}
}

func testListsByKey(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(deployPath, ns) + "/d"
	a.mustApply(t, 201, path, "m", deployed("d", podTemplate))
	side := `"template":{"spec":{"containers":[{"name":"side","image":"s:1","ports":[{"containerPort":80},{"containerPort":80,"protocol":"UDP"}]}]}}`
	m := a.mustApply(t, 200, path, "side", deployed("d", side))
	names := func(m any) (out []string) {
		list, _ := at(m, "spec.template.spec.containers").([]any)
		for _, c := range list {
			out = append(out, at(c, "name").(string))
		}
		return out
	}
	if got := names(m); !slices.Equal(got, []string{"c", "side"}) {
		t.Errorf("containers %v", got)
	}
	expectOwned(t, m, "side", `Apply/ {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"side\"}":{".":{},"f:image":{},"f:name":{},`+
		`"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}},`+
		`"k:{\"containerPort\":80,\"protocol\":\"UDP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}}}}}}}}`)
	m = a.mustApply(t, 200, path, "m", deployed("d", strings.Replace(podTemplate, "i:1", "i:2", 1)))
	if got := names(m); !slices.Equal(got, []string{"c", "side"}) || at(m, "spec.template.spec.containers.0.image") != "i:2" {
		t.Errorf("containers %v", at(m, "spec.template.spec.containers"))
	}
	m = a.mustApply(t, 200, path, "side", deployed("d", ""))
	if got := names(m); !slices.Equal(got, []string{"c"}) {
		t.Errorf("containers %v", got)
	}
	twice := `"template":{"spec":{"containers":[{"name":"x"},{"name":"x"}]}}`
	if r := a.apply(t, path, "side", deployed("d", twice)); r.code != 400 || !strings.Contains(r.status.Message, `.spec.template.spec.containers: duplicate entries for key [name="x"]`) {
		t.Errorf("an item twice: %d %s", r.code, r.status.Message)
	}
	// A set: finalizers.
	maps := fmt.Sprintf(cmPath, ns) + "/s"
	finalizer := func(f string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"s","finalizers":[` + f + `]}}`
	}
	a.mustApply(t, 201, maps, "one", finalizer(`"a.io/x"`))
	m = a.mustApply(t, 200, maps, "two", finalizer(`"b.io/y"`))
	if got, _ := at(m, "metadata.finalizers").([]any); len(got) != 2 {
		t.Errorf("finalizers %v", got)
	}
	expectOwned(t, m, "two", `Apply/ {"f:metadata":{"f:finalizers":{"v:\"b.io/y\"":{}}}}`)
	m = a.mustApply(t, 200, maps, "one", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"s"}}`)
	if got, _ := at(m, "metadata.finalizers").([]any); len(got) != 1 || got[0] != "b.io/y" {
		t.Errorf("finalizers %v", got)
	}
}

func testApplyStatus(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(deployPath, ns) + "/d"
	a.mustApply(t, 201, path, "m", deployed("d", podTemplate))
	status := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"replicas":9},"status":{"replicas":%d,` +
		`"conditions":[{"type":"Available","status":"True"}]}}`
	m := a.mustApply(t, 200, path+"/status", "ctl", fmt.Sprintf(status, 1))
	if at(m, "spec.replicas") != 1.0 || at(m, "status.replicas") != 1.0 {
		t.Errorf("got %v", m)
	}
	expectOwned(t, m, "ctl", `Apply/status {"f:status":{"f:conditions":{"k:{\"type\":\"Available\"}":{".":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}`)
	// Status by the main resource is nobody's and has no effect.
	m = a.mustApply(t, 200, path, "m", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{`+podTemplate+`},"status":{"replicas":5}}`)
	if at(m, "status.replicas") != 1.0 || strings.Contains(owned(t, m, "m"), "f:status") {
		t.Errorf("got %v, m owns %s", at(m, "status"), owned(t, m, "m"))
	}
	r := a.apply(t, path+"/status", "other", fmt.Sprintf(status, 2))
	if r.code != 409 || r.status.Message != `Apply failed with 1 conflict: conflict with "ctl" with subresource "status": .status.replicas` {
		t.Errorf("got %d %s", r.code, r.status.Message)
	}
	m = a.must(t, 200, "PATCH", path+"/status?fieldManager=upd", `{"status":{"replicas":3,"readyReplicas":1}}`, "Content-Type", "application/merge-patch+json")
	expectOwned(t, m, "upd", `Update/status {"f:status":{"f:readyReplicas":{},"f:replicas":{}}}`)
	if r := a.apply(t, fmt.Sprintf(deployPath, ns)+"/none/status", "m", deployed("none", "")); r.code != 404 {
		t.Errorf("the status of nothing: %d %s", r.code, r.status.Message)
	}
}

func testApplyScale(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(deployPath, ns) + "/d"
	a.mustApply(t, 201, path, "m", deployed("d", `"replicas":2,`+podTemplate))
	scale := `{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"d"},"spec":{"replicas":%d}}`
	a.must(t, 200, "PUT", path+"/scale?fieldManager=hpa", fmt.Sprintf(`{"metadata":{"name":"d","namespace":%q},"spec":{"replicas":3}}`, ns))
	m := a.must(t, 200, "GET", path, "")
	expectOwned(t, m, "hpa", `Update/scale {"f:spec":{"f:replicas":{}}}`)
	if strings.Contains(owned(t, m, "m"), "f:replicas") {
		t.Errorf("m owns %s", owned(t, m, "m"))
	}
	r := a.apply(t, path, "m", deployed("d", `"replicas":2,`+podTemplate))
	if r.code != 409 || r.status.Message != `Apply failed with 1 conflict: conflict with "hpa" with subresource "scale" using apps/v1: .spec.replicas` {
		t.Errorf("got %d %s", r.code, r.status.Message)
	}
	if r := a.apply(t, path+"/scale", "s", fmt.Sprintf(scale, 4)); r.code != 409 || !strings.HasSuffix(r.status.Message, ": .spec.replicas") {
		t.Errorf("got %d %s", r.code, r.status.Message)
	}
	s := a.mustApply(t, 200, path+"/scale", "s&force=true", fmt.Sprintf(scale, 4))
	if s["kind"] != "Scale" || at(s, "spec.replicas") != 4.0 {
		t.Errorf("got %v", s)
	}
	m = a.must(t, 200, "GET", path, "")
	expectOwned(t, m, "s", `Apply/scale {"f:spec":{"f:replicas":{}}}`)
	expectOwned(t, m, "hpa", "")
	if at(m, "spec.replicas") != 4.0 {
		t.Errorf("got %v", at(m, "spec.replicas"))
	}
	m = a.mustApply(t, 200, path, "m", deployed("d", podTemplate)) // as when one hands the replicas to an autoscaler
	if at(m, "spec.replicas") != 4.0 {
		t.Errorf("got %v", at(m, "spec.replicas"))
	}
}

func testApplyDryRun(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns) + "/a"
	config := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"%s"}}`
	m := a.mustApply(t, 201, path, "m&dryRun=All", fmt.Sprintf(config, "1"))
	expectOwned(t, m, "m", `Apply/ {"f:data":{"f:k":{}}}`)
	if r := a.do(t, "GET", path, ""); r.code != 404 {
		t.Errorf("a dry run made it: %d", r.code)
	}
	a.mustApply(t, 201, path, "m", fmt.Sprintf(config, "1"))
	if m = a.mustApply(t, 200, path, "m&dryRun=All", fmt.Sprintf(config, "2")); at(m, "data.k") != "2" {
		t.Errorf("got %v", m)
	}
	if m = a.must(t, 200, "GET", path, ""); at(m, "data.k") != "1" {
		t.Errorf("a dry run changed it: %v", m)
	}
}

func testMigration(t *testing.T, a *api) {
	ns := a.namespace(t)
	maps := fmt.Sprintf(cmPath, ns)
	last := `{\"apiVersion\":\"v1\",\"data\":{\"a\":\"1\",\"b\":\"1\"},\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"a\",\"namespace\":\"` + ns + `\"}}\n`
	a.must(t, 201, "POST", maps+"?fieldManager=kubectl-client-side-apply",
		`{"metadata":{"name":"a","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"`+last+`"}},"data":{"a":"1","b":"1"}}`)
	config := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"` + ns + `"},"data":{"a":"2","b":"1"}}`
	if r := a.apply(t, maps+"/a", "other", config); r.code != 409 {
		t.Errorf("only kubectl may take over: %d", r.code)
	}
	m := a.mustApply(t, 200, maps+"/a", "kubectl", config)
	if at(m, "data.a") != "2" {
		t.Errorf("got %v", m["data"])
	}
	expectOwned(t, m, "kubectl", `Apply/ {"f:data":{"f:a":{},"f:b":{}}}`)
	annotations, _ := at(m, "metadata.annotations").(map[string]any)
	if now, _ := annotations["kubectl.kubernetes.io/last-applied-configuration"].(string); !strings.Contains(now, `"a":"2"`) {
		t.Errorf("the annotation is %q", now)
	}
	// What somebody changed since is a conflict.
	a.must(t, 200, "PATCH", maps+"/a?fieldManager=x", `{"data":{"a":"3"}}`, "Content-Type", "application/merge-patch+json")
	if r := a.apply(t, maps+"/a", "kubectl", config); r.code != 409 {
		t.Errorf("got %d", r.code)
	}
}

func testDefaultsUnowned(t *testing.T, a *api) {
	ns := a.namespace(t)
	m := a.mustApply(t, 201, fmt.Sprintf(deployPath, ns)+"/d", "m", deployed("d", podTemplate))
	if at(m, "spec.replicas") != 1.0 || at(m, "spec.strategy.type") != "RollingUpdate" {
		t.Errorf("no defaults: %v", m["spec"])
	}
	expectOwned(t, m, "m", `Apply/ {"f:spec":{"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}}}`)
	// Nor can they conflict.
	a.mustApply(t, 200, fmt.Sprintf(deployPath, ns)+"/d", "n", deployed("d", `"replicas":3`))
}

func testApplyNoOp(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(deployPath, ns) + "/d"
	config := deployed("d", `"replicas":2,`+podTemplate)
	was := a.mustApply(t, 201, path, "m", config)
	now := a.mustApply(t, 200, path, "m", config)
	if at(now, "metadata.resourceVersion") != at(was, "metadata.resourceVersion") || at(now, "metadata.generation") != 1.0 {
		t.Errorf("an apply of what is there was written: %v, %v", at(was, "metadata"), at(now, "metadata"))
	}
	// An equal update that sends the owners along is none either.
	b, err := json.Marshal(now)
	if err != nil {
		t.Fatal(err)
	}
	if m := a.must(t, 200, "PUT", path, string(b)); at(m, "metadata.resourceVersion") != at(was, "metadata.resourceVersion") {
		t.Error("a PUT of what is there was written")
	}
	if m := a.must(t, 200, "PATCH", path, `{"spec":{"replicas":2}}`, "Content-Type", "application/strategic-merge-patch+json"); at(m, "metadata.resourceVersion") != at(was, "metadata.resourceVersion") {
		t.Error("a patch to what is there was written")
	}
}
