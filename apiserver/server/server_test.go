package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/testcluster"
)

// api is the shared cluster of TestAPI, spoken to in plain HTTP.
type api struct {
	*testcluster.Cluster
	http *http.Client
}

// reply is an answer: its code, headers, and body as JSON.
type reply struct {
	code   int
	header http.Header
	body   string
	status metav1.Status
}

// do sends a request; header is pairs.
func (a *api) do(t *testing.T, method, path, body string, header ...string) reply {
	t.Helper()
	r, err := a.try(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	if r.code >= 400 {
		if err := json.Unmarshal([]byte(r.body), &r.status); err != nil {
			t.Fatalf("%s %s: %d is no Status: %.300s", method, path, r.code, r.body)
		}
	}
	return r
}

// try is do for any goroutine.
func (a *api) try(ctx context.Context, method, path, body string, header ...string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.URL()+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{code: resp.StatusCode, header: resp.Header, body: string(b)}, err
}

// must is do that expects a code.
func (a *api) must(t *testing.T, code int, method, path, body string, header ...string) map[string]any {
	t.Helper()
	r := a.do(t, method, path, body, header...)
	if r.code != code {
		t.Fatalf("%s %s: got %d, want %d: %.500s", method, path, r.code, code, r.body)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("%s %s: no JSON: %.300s", method, path, r.body)
	}
	return m
}

// at digs a value out of JSON by a dotted path.
func at(m any, path string) any {
	for _, k := range strings.Split(path, ".") {
		switch v := m.(type) {
		case map[string]any:
			m = v[k]
		case []any:
			var i int
			if _, err := fmt.Sscan(k, &i); err != nil || i >= len(v) {
				return nil
			}
			m = v[i]
		default:
			return nil
		}
	}
	return m
}

func (a *api) namespace(t *testing.T) string {
	t.Helper()
	m := a.must(t, 201, "POST", "/api/v1/namespaces", `{"metadata":{"generateName":"test-"}}`)
	name := at(m, "metadata.name").(string)
	a.must(t, 201, "POST", "/api/v1/namespaces/"+name+"/serviceaccounts", `{"metadata":{"name":"default"}}`)
	return name
}

const cmPath = "/api/v1/namespaces/%s/configmaps"

// TestAPI drives one real API server through its whole surface.
func TestAPI(t *testing.T) {
	c := testcluster.Start(t)
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"create and read", testCreate}, {"bad input", testBadInput}, {"update", testUpdate}, {"patch", testPatch},
		{"delete", testDelete}, {"lists in pages", testPages}, {"forms", testForms}, {"watch", testWatch},
		{"initial events", testInitialEvents}, {"selectors", testSelectors}, {"scale", testScale}, {"events in two groups", testEvents},
		{"binding and eviction", testBinding}, {"namespace life", testNamespace}, {"dry run", testDryRun}, {"discovery", testDiscovery},
		{"who gets in", testAuthorization}, {"many writers", testManyWriters}, {"watchers that do not read", testSlowWatchers},
		{"long list", testLongList}, {"negotiation", testNegotiation}, {"gzip", testGzip}, {"reads", testReads},
		{"limits", testLimits}, {"watch forms", testWatchForms}, {"delete options", testDeleteOptions},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
}

func testCreate(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	m := a.must(t, 201, "POST", path, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"x":"y"}},"data":{"k":"v"}}`)
	for _, p := range []string{"metadata.uid", "metadata.resourceVersion", "metadata.creationTimestamp"} {
		if s, _ := at(m, p).(string); s == "" {
			t.Errorf("%s is empty", p)
		}
	}
	if at(m, "kind") != "ConfigMap" || at(m, "apiVersion") != "v1" || at(m, "metadata.namespace") != ns {
		t.Errorf("got %v", m)
	}
	g := a.must(t, 200, "GET", path+"/a", "")
	if fmt.Sprint(g) != fmt.Sprint(m) {
		t.Errorf("get differs from create:\n%v\n%v", g, m)
	}
	m = a.must(t, 201, "POST", path, `{"metadata":{"generateName":"gen-"}}`)
	if n := at(m, "metadata.name").(string); !strings.HasPrefix(n, "gen-") || len(n) != 9 {
		t.Errorf("generated name %q", n)
	}
	yaml := a.do(t, "POST", path, "metadata:\n  name: yaml\ndata: {k: v}\n", "Content-Type", "application/yaml", "Accept", "application/yaml")
	if yaml.code != 201 || !strings.Contains(yaml.body, "name: yaml") {
		t.Errorf("yaml: %d %s", yaml.code, yaml.body)
	}
	if l := a.must(t, 200, "GET", path, ""); len(at(l, "items").([]any)) != 3 || at(l, "kind") != "ConfigMapList" {
		t.Errorf("list: %v", l)
	}
}

func testBadInput(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	a.must(t, 201, "POST", path, `{"metadata":{"name":"there"},"immutable":true,"data":{"k":"v"}}`)
	big := `{"metadata":{"name":"big"},"data":{"k":"` + strings.Repeat("x", 3<<20) + `"}}`
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		code                     int
		reason, text             string
	}{
		{"cut JSON", "POST", path, `{"metadata":{`, nil, 400, "BadRequest", "cannot be handled as a ConfigMap"},
		{"cut YAML", "POST", path, "a: b: c", []string{"Content-Type", "application/yaml"}, 400, "BadRequest", "YAML"},
		{"no protobuf", "POST", path, "hello", []string{"Content-Type", "application/vnd.kubernetes.protobuf"}, 400, "BadRequest", "protobuf"},
		{"unknown media", "POST", path, "hello", []string{"Content-Type", "text/csv"}, 415, "UnsupportedMediaType", "accepted media types"},
		{"wrong kind", "POST", path, `{"kind":"Secret","metadata":{"name":"x"}}`, nil, 400, "BadRequest", "Secret"},
		{"wrong version", "POST", path, `{"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"x"}}`, nil, 400, "BadRequest", "does not match the expected API version"},
		{"no name", "POST", path, `{"metadata":{}}`, nil, 422, "Invalid", "metadata.name"},
		{"bad name", "POST", path, `{"metadata":{"name":"A_b"}}`, nil, 422, "Invalid", "metadata.name: Invalid value: \"A_b\""},
		{"bad label", "POST", path, `{"metadata":{"name":"x","labels":{"-":"v"}}}`, nil, 422, "Invalid", "metadata.labels"},
		{"other namespace", "POST", path, `{"metadata":{"name":"x","namespace":"other"}}`, nil, 400, "BadRequest", "does not match the namespace"},
		{"taken", "POST", path, `{"metadata":{"name":"there"}}`, nil, 409, "AlreadyExists", `configmaps "there" already exists`},
		{"too large", "POST", path, big, nil, 413, "RequestEntityTooLarge", "limit is 3145728"},
		{"unknown kind", "GET", "/api/v1/namespaces/" + ns + "/things", "", nil, 404, "NotFound", "could not find the requested resource"},
		{"unknown group", "GET", "/apis/no.such/v1/things", "", nil, 404, "NotFound", "could not find the requested resource"},
		{"unknown path", "GET", "/nothing", "", nil, 404, "NotFound", ""},
		{"not there", "GET", path + "/absent", "", nil, 404, "NotFound", `configmaps "absent" not found`},
		{"delete of nothing", "DELETE", path + "/absent", "", nil, 404, "NotFound", `configmaps "absent" not found`},
		{"patch of nothing", "PATCH", path + "/absent", `{}`, []string{"Content-Type", "application/merge-patch+json"}, 404, "NotFound", ""},
		{"put without name", "PUT", path + "/there", `{"metadata":{}}`, nil, 400, "BadRequest", "name"},
		{"put to another", "PUT", path + "/there", `{"metadata":{"name":"else"}}`, nil, 400, "BadRequest", "does not match the name on the URL"},
		{"immutable", "PUT", path + "/there", `{"metadata":{"name":"there"},"immutable":true,"data":{"k":"w"}}`, nil, 422, "Invalid", "data: Forbidden: field is immutable when `immutable` is set"},
		{"stale", "PUT", path + "/there", `{"metadata":{"name":"there","resourceVersion":"1"},"data":{}}`, nil, 409, "Conflict", "the object has been modified"},
		{"wrong uid", "PUT", path + "/there", `{"metadata":{"name":"there","uid":"1234"},"data":{}}`, nil, 409, "Conflict", "UID in precondition"},
		{"bad patch", "PATCH", path + "/there", `[{"op":"nope"}]`, []string{"Content-Type", "application/json-patch+json"}, 422, "Invalid", ""},
		{"broken patch", "PATCH", path + "/there", `{`, []string{"Content-Type", "application/json-patch+json"}, 400, "BadRequest", ""},
		{"unknown patch", "PATCH", path + "/there", `{}`, nil, 415, "UnsupportedMediaType", "application/strategic-merge-patch+json"},
		{"bad selector", "GET", path + "?labelSelector=" + url.QueryEscape("a in"), "", nil, 400, "BadRequest", ""},
		{"bad field", "GET", path + "?fieldSelector=data.k%3Dv", "", nil, 400, "BadRequest", "is not a known field selector"},
		{"bad continue", "GET", path + "?continue=nonsense", "", nil, 400, "BadRequest", "continue"},
		{"bad revision", "GET", path + "?resourceVersion=abc", "", nil, 400, "", ""},
		{"not acceptable", "GET", path, "", []string{"Accept", "image/png"}, 406, "NotAcceptable", "application/json"},
		{"unknown field, strict", "POST", path + "?fieldValidation=Strict", `{"metadata":{"name":"x"},"dta":{}}`, nil, 400, "BadRequest", `unknown field "dta"`},
		{"bad validation", "POST", path + "?fieldValidation=Maybe", `{"metadata":{"name":"x"}}`, nil, 422, "Invalid", `fieldValidation: Unsupported value: "Maybe"`},
		{"bad dry run", "POST", path + "?dryRun=Some", `{"metadata":{"name":"x"}}`, nil, 422, "Invalid", "dryRun"},
		{"method", "PUT", path, `{}`, nil, 405, "MethodNotAllowed", ""},
		{"create everywhere", "POST", "/api/v1/configmaps", `{"metadata":{"name":"x"}}`, nil, 405, "MethodNotAllowed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := a.must(t, 200, "GET", path, "")
			r := a.do(t, c.method, c.path, c.body, c.header...)
			if r.code != c.code || c.reason != "" && string(r.status.Reason) != c.reason || !strings.Contains(r.status.Message, c.text) {
				t.Errorf("got %d %s %q, want %d %s %q", r.code, r.status.Reason, r.status.Message, c.code, c.reason, c.text)
			}
			if r.status.Kind != "Status" || r.status.APIVersion != "v1" || r.status.Status != "Failure" || int(r.status.Code) != r.code {
				t.Errorf("not a whole Status: %+v", r.status)
			}
			if c.code == 422 && c.reason == "Invalid" && strings.HasPrefix(c.text, "metadata") {
				if r.status.Details == nil || len(r.status.Details.Causes) == 0 || !strings.HasPrefix(r.status.Details.Causes[0].Field, "metadata.") {
					t.Errorf("no cause with a field path: %+v", r.status.Details)
				}
			}
			after := a.must(t, 200, "GET", path, "")
			if fmt.Sprint(at(before, "items")) != fmt.Sprint(at(after, "items")) {
				t.Error("something changed")
			}
		})
	}
	r := a.do(t, "POST", path, `{"metadata":{"name":"warned"},"dta":{}}`)
	if r.code != 201 || !strings.Contains(r.header.Get("Warning"), `unknown field \"dta\"`) {
		t.Errorf("without fieldValidation: %d, Warning %q", r.code, r.header.Get("Warning"))
	}
}

func testUpdate(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	m := a.must(t, 201, "POST", path, `{"metadata":{"name":"a"},"data":{"k":"1"}}`)
	rv := at(m, "metadata.resourceVersion").(string)
	u := a.must(t, 200, "PUT", path+"/a", `{"metadata":{"name":"a","resourceVersion":"`+rv+`"},"data":{"k":"2"}}`)
	if at(u, "metadata.resourceVersion") == rv || at(u, "metadata.uid") != at(m, "metadata.uid") || at(u, "data.k") != "2" {
		t.Errorf("got %v", u)
	}
	same := a.must(t, 200, "PUT", path+"/a", `{"metadata":{"name":"a"},"data":{"k":"2"}}`)
	if at(same, "metadata.resourceVersion") != at(u, "metadata.resourceVersion") {
		t.Error("an update that changes nothing wrote")
	}
	if r := a.do(t, "PUT", path+"/a", `{"metadata":{"name":"a","resourceVersion":"`+rv+`"},"data":{"k":"3"}}`); r.code != 409 {
		t.Errorf("stale update: %d", r.code)
	}
	// Many writers without a resourceVersion: all get through, one after another.
	done := make(chan int)
	for i := range 20 {
		go func() {
			done <- a.do(t, "PATCH", path+"/a", fmt.Sprintf(`{"data":{"n%d":"x"}}`, i), "Content-Type", "application/merge-patch+json").code
		}()
	}
	for range 20 {
		if code := <-done; code != 200 {
			t.Errorf("concurrent patch: %d", code)
		}
	}
	if m = a.must(t, 200, "GET", path+"/a", ""); len(at(m, "data").(map[string]any)) != 21 {
		t.Errorf("lost updates: %v", at(m, "data"))
	}
}

func testPatch(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := "/apis/apps/v1/namespaces/" + ns + "/deployments"
	a.must(t, 201, "POST", path, deployment("web", 1))
	for _, c := range []struct{ name, media, body, at, want string }{
		{"merge", "application/merge-patch+json", `{"spec":{"replicas":3}}`, "spec.replicas", "3"},
		{"merge removes", "application/merge-patch+json", `{"metadata":{"labels":{"tier":null}}}`, "metadata.labels.tier", "<nil>"},
		{"json", "application/json-patch+json", `[{"op":"test","path":"/spec/replicas","value":3},{"op":"replace","path":"/spec/replicas","value":4}]`, "spec.replicas", "4"},
		{"strategic", "application/strategic-merge-patch+json", `{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"busybox"}]}}}}`, "spec.template.spec.containers.1.name", "web"},
		{"strategic by name", "application/strategic-merge-patch+json", `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`, "spec.template.spec.containers.1.image", "web:2"},
		{"strategic delete", "application/strategic-merge-patch+json", `{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}`, "spec.template.spec.containers.1", "<nil>"},
	} {
		m := a.must(t, 200, "PATCH", path+"/web", c.body, "Content-Type", c.media)
		if got := fmt.Sprint(at(m, c.at)); got != c.want {
			t.Errorf("%s: %s is %s, want %s", c.name, c.at, got, c.want)
		}
	}
	m := a.must(t, 200, "PATCH", path+"/web/status", `{"status":{"replicas":2},"spec":{"replicas":9}}`, "Content-Type", "application/merge-patch+json")
	if fmt.Sprint(at(m, "spec.replicas")) != "4" || fmt.Sprint(at(m, "status.replicas")) != "2" {
		t.Errorf("status patch: %v", m)
	}
	if g := fmt.Sprint(at(m, "metadata.generation")); g != "6" {
		t.Errorf("generation is %s after five changes of the spec", g)
	}
	m = a.must(t, 200, "PATCH", path+"/web", `{"status":{"replicas":7}}`, "Content-Type", "application/merge-patch+json")
	if fmt.Sprint(at(m, "status.replicas")) != "2" {
		t.Error("status changed through the main resource")
	}
}

func deployment(name string, replicas int) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"tier":"front"}},"spec":{"replicas":%d,"selector":{"matchLabels":{"app":%q}},
		"template":{"metadata":{"labels":{"app":%q}},"spec":{"containers":[{"name":"web","image":"web:1"}]}}}}`, name, replicas, name, name)
}

func testDelete(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	create := func(name, finalizers string) map[string]any {
		return a.must(t, 201, "POST", path, fmt.Sprintf(`{"metadata":{"name":%q,"finalizers":[%s]}}`, name, finalizers))
	}
	create("plain", "")
	m := a.must(t, 200, "DELETE", path+"/plain", "")
	if at(m, "status") != "Success" || at(m, "details.name") != "plain" || at(m, "details.kind") != "configmaps" {
		t.Errorf("got %v", m)
	}
	created := create("kept", `"example.com/hold"`)
	if r := a.do(t, "DELETE", path+"/kept", `{"preconditions":{"uid":"other"}}`); r.code != 409 {
		t.Errorf("precondition on uid: %d", r.code)
	}
	m = a.must(t, 200, "DELETE", path+"/kept", `{"preconditions":{"uid":"`+at(created, "metadata.uid").(string)+`"}}`)
	if at(m, "metadata.deletionTimestamp") == nil {
		t.Errorf("no deletionTimestamp: %v", m)
	}
	r := a.do(t, "PATCH", path+"/kept", `{"metadata":{"finalizers":["example.com/hold","example.com/new"]}}`, "Content-Type", "application/merge-patch+json")
	if r.code != 422 || !strings.Contains(r.status.Message, "no new finalizers can be added") {
		t.Errorf("a finalizer was added while deleting: %d %s", r.code, r.status.Message)
	}
	a.must(t, 200, "PATCH", path+"/kept", `{"metadata":{"finalizers":null}}`, "Content-Type", "application/merge-patch+json")
	if r := a.do(t, "GET", path+"/kept", ""); r.code != 404 {
		t.Errorf("after its last finalizer went: %d", r.code)
	}
	create("parent", "")
	m = a.must(t, 200, "DELETE", path+"/parent?propagationPolicy=Foreground", "")
	if fmt.Sprint(at(m, "metadata.finalizers")) != "[foregroundDeletion]" {
		t.Errorf("foreground: %v", at(m, "metadata.finalizers"))
	}
	m = a.must(t, 200, "DELETE", path+"/parent", `{"propagationPolicy":"Orphan"}`)
	if fmt.Sprint(at(m, "metadata.finalizers")) != "[orphan]" {
		t.Errorf("orphan: %v", at(m, "metadata.finalizers"))
	}
	for i := range 30 {
		a.must(t, 201, "POST", path, fmt.Sprintf(`{"metadata":{"name":"c%d","labels":{"odd":"%d"}}}`, i, i%2))
	}
	if m = a.must(t, 200, "DELETE", path+"?labelSelector=odd%3D1", ""); len(at(m, "items").([]any)) != 15 {
		t.Errorf("deletecollection returned %d items", len(at(m, "items").([]any)))
	}
	if m = a.must(t, 200, "GET", path+"?labelSelector=odd", ""); len(at(m, "items").([]any)) != 15 {
		t.Errorf("%d items left", len(at(m, "items").([]any)))
	}
	if r := a.do(t, "DELETE", path, `{"propagationPolicy":"Sideways"}`); r.code != 422 {
		t.Errorf("unknown propagation: %d", r.code)
	}
}

func testPages(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	for i := range 25 {
		a.must(t, 201, "POST", path, fmt.Sprintf(`{"metadata":{"name":"p%02d"}}`, i))
	}
	var names []string
	next := ""
	first := ""
	for page := 0; ; page++ {
		m := a.must(t, 200, "GET", path+"?limit=10&continue="+url.QueryEscape(next), "")
		if page == 0 {
			first = at(m, "metadata.resourceVersion").(string)
			if fmt.Sprint(at(m, "metadata.remainingItemCount")) != "15" {
				t.Errorf("remaining %v", at(m, "metadata.remainingItemCount"))
			}
			a.must(t, 201, "POST", path, `{"metadata":{"name":"p05-later"}}`)
			a.must(t, 201, "POST", path, `{"metadata":{"name":"p20-later"}}`)
		}
		if at(m, "metadata.resourceVersion") != first {
			t.Errorf("page %d is of revision %v, the first of %s", page, at(m, "metadata.resourceVersion"), first)
		}
		for _, i := range at(m, "items").([]any) {
			names = append(names, at(i, "metadata.name").(string))
		}
		if next, _ = at(m, "metadata.continue").(string); next == "" {
			break
		}
	}
	if len(names) != 25 || names[24] != "p24" {
		t.Errorf("got %d: %v", len(names), names)
	}
}

func testForms(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	a.must(t, 201, "POST", path, `{"metadata":{"name":"a","labels":{"x":"y"}},"data":{"k":"v"}}`)
	m := a.must(t, 200, "GET", path, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	if at(m, "kind") != "Table" || at(m, "rows.0.cells.0") != "a" || at(m, "rows.0.object.kind") != "PartialObjectMetadata" ||
		at(m, "columnDefinitions.0.name") != "Name" {
		t.Errorf("table: %v", m)
	}
	m = a.must(t, 200, "GET", path+"/a?includeObject=Object", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	if at(m, "rows.0.object.data.k") != "v" {
		t.Errorf("table of one with its object: %v", m)
	}
	m = a.must(t, 200, "GET", path, "", "Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
	if at(m, "kind") != "PartialObjectMetadataList" || at(m, "items.0.metadata.labels.x") != "y" || at(m, "items.0.data") != nil {
		t.Errorf("partial: %v", m)
	}
	r := a.do(t, "GET", path+"/a?pretty=true", "")
	if !strings.Contains(r.body, "\n  \"kind\": \"ConfigMap\"") {
		t.Errorf("pretty: %s", r.body)
	}
	r = a.do(t, "GET", path, "", "Accept", "application/vnd.kubernetes.protobuf")
	if !bytes.HasPrefix([]byte(r.body), []byte("k8s\x00")) || r.header.Get("Content-Type") != "application/vnd.kubernetes.protobuf" {
		t.Errorf("protobuf: %q", r.body)
	}
	r = a.do(t, "GET", "/version", "")
	if !strings.Contains(r.body, `"minor": "37"`) {
		t.Errorf("version: %s", r.body)
	}
}

func testDryRun(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	if m := a.must(t, 201, "POST", path+"?dryRun=All", `{"metadata":{"name":"a"},"data":{"k":"v"}}`); at(m, "metadata.uid") == nil {
		t.Errorf("got %v", m)
	}
	if r := a.do(t, "GET", path+"/a", ""); r.code != 404 {
		t.Errorf("a dry run stored: %d", r.code)
	}
	a.must(t, 201, "POST", path, `{"metadata":{"name":"a"},"data":{"k":"v"}}`)
	a.must(t, 200, "PATCH", path+"/a?dryRun=All", `{"data":{"k":"w"}}`, "Content-Type", "application/merge-patch+json")
	a.do(t, "DELETE", path+"/a?dryRun=All", "")
	if m := a.must(t, 200, "GET", path+"/a", ""); at(m, "data.k") != "v" {
		t.Errorf("a dry run changed: %v", m)
	}
	if r := a.do(t, "POST", path+"?dryRun=All", `{"metadata":{"name":"Not_valid"}}`); r.code != 422 {
		t.Errorf("a dry run does not validate: %d", r.code)
	}
}

func testAuthorization(t *testing.T, a *api) {
	for _, c := range []struct {
		user, group, method, path string
		code                      int
	}{
		{"admin", "system:masters", "GET", "/api/v1/secrets", 200},
		{"somebody", "", "GET", "/api/v1/secrets", 403},
		{"somebody", "", "GET", "/api", 200},
		{"somebody", "", "GET", "/metrics", 403},
		{"system:kube-scheduler", "", "GET", "/api/v1/pods", 200},
		{"system:kube-scheduler", "", "GET", "/api/v1/secrets", 403},
		{"system:kube-proxy", "", "GET", "/api/v1/services", 200},
		{"system:kube-proxy", "", "GET", "/api/v1/pods", 200}, // whom policies select
		{"system:kube-proxy", "", "GET", "/api/v1/secrets", 403},
		{"system:node:n1", "system:nodes", "GET", "/api/v1/services", 200},
		{"system:node:n1", "system:nodes", "GET", "/api/v1/nodes", 200}, // for its routes to the others
		{"system:node:n1", "system:nodes", "GET", "/api/v1/pods", 403},
		{"system:node:n1", "system:nodes", "GET", "/apis/apps/v1/deployments", 403},
		{"system:kube-controller-manager", "", "GET", "/apis/apps/v1/deployments", 200},
		{"", "", "GET", "/healthz", 200},
		{"", "", "GET", "/readyz", 200},
		{"", "", "GET", "/version", 200},
		{"", "", "GET", "/api/v1/namespaces", 401},
		{"", "", "GET", "/api", 401},
	} {
		t.Run(c.user+" "+c.path, func(t *testing.T) {
			tls := a.TLS()
			if c.user == "" {
				tls.GetClientCertificate = nil
				tls.Certificates = nil
			} else {
				tls = a.TLSOf(c.user, c.group)
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: tls}, Timeout: 30 * time.Second}
			defer client.CloseIdleConnections()
			one := &api{a.Cluster, client}
			r := one.do2(t, c.method, c.path)
			if r != c.code {
				t.Errorf("got %d, want %d", r, c.code)
			}
		})
	}
	r := (&api{a.Cluster, a.bearer("nonsense")}).do(t, "GET", "/api/v1/namespaces", "")
	if r.code != 401 || r.status.Reason != metav1.StatusReasonUnauthorized {
		t.Errorf("a credential that is none: %d", r.code)
	}
}

func (a *api) do2(t *testing.T, method, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
