package server_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

// testLimits sends what is too much: the answer is always a Status, and the server goes on.
func testLimits(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	a.must(t, 201, "POST", path, `{"metadata":{"name":"a"}}`)
	sets := "/apis/apps/v1/namespaces/" + ns + "/replicasets"
	object := func(size int) string { // of a kind that has no limit of its own
		return strings.Replace(deployment("big", 1), `"image":`, `"env":[{"name":"A","value":"`+strings.Repeat("x", size)+`"}],"image":`, 1)
	}
	a.must(t, 201, "POST", sets, deployment("small", 1))
	ops := "[" + strings.Repeat(`{"op":"test","path":"/metadata/name","value":"a"},`, 10001)
	for _, c := range []struct {
		name, method, path, body, media string
		code                            int
		text                            string
	}{
		{"body of 3 MiB and a byte", "POST", sets, object(3 << 20), js, 413, "Request entity too large: limit is 3145728"},
		{"object of 1.5 MiB", "POST", sets, object(1536 << 10), js, 413, "Request entity too large: the object as it would be stored: limit is 1572864 bytes"},
		{"object nearly of 1.5 MiB, and a key", "POST", sets, object(1536<<10 - 150), js, 413, "Request entity too large"},
		{"object of 2.9 MiB", "PUT", sets + "/small", strings.ReplaceAll(object(2900<<10), "big", "small"), js, 413, "Request entity too large"},
		{"patch to 1.5 MiB", "PATCH", sets + "/small", `{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"` +
			strings.Repeat("y", 1536<<10) + `"}]}]}}}}`, "application/strategic-merge-patch+json", 413, "Request entity too large"},
		{"many operations", "PATCH", path + "/a", ops[:len(ops)-1] + "]", "application/json-patch+json", 413, "10000"},
		{"deep JSON", "POST", path, strings.Repeat(`{"metadata":`, 100000), js, 400, "exceeded max depth"},
		{"deep closed JSON", "POST", path, `{"x":` + strings.Repeat("[", 200000) + strings.Repeat("]", 200000) + "}", js, 400, "exceeded max depth"},
		{"deep YAML", "POST", path, strings.Repeat("[", 100000), "application/yaml", 400, "exceeded max depth"},
		{"deep merge patch", "PATCH", path + "/a", strings.Repeat(`{"a":`, 200000) + "1" + strings.Repeat("}", 200000), "application/merge-patch+json", 400, ""},
		{"deep delete options", "DELETE", path + "/none", strings.Repeat(`{"a":`, 200000), js, 400, ""},
		{"segment of dots", "GET", path + "/..", "", "", 400, `Name parameter invalid: "..": may not be '..'`},
		{"segment of a dot", "DELETE", path + "/.", "", "", 400, `Name parameter invalid: ".": may not be '.'`},
		{"percent in a name", "GET", path + "/a%25b", "", "", 400, `Name parameter invalid: "a%b": may not contain '%'`},
		{"slash in a name", "GET", path + "/a%2Fb", "", "", 404, "could not find the requested resource"},
		{"zero in a name", "GET", path + "/a%00b", "", "", 404, "not found"},
		{"namespace of dots", "GET", "/api/v1/namespaces/../configmaps", "", "", 400, "Name parameter invalid"},
		{"empty segment", "GET", "/api/v1//namespaces", "", "", 404, ""},
		{"empty namespace", "GET", "/api/v1/namespaces//configmaps", "", "", 404, ""},
		{"nothing but slashes", "GET", "//////", "", "", 404, ""},
		{"a watch that is none", "DELETE", "/api/v1/watch/namespaces/" + ns + "/configmaps/a", "", "", 405, ""},
		{"another method", "OPTIONS", path + "?watch=1", "", "", 405, ""},
		{"a timeout that is none", "GET", path + "?timeout=soon", "", "", 400, `invalid timeout specified in the request URL - time: invalid duration "soon"`},
		{"a timeout", "GET", path + "?timeout=5s", "", "", 200, ""},
		{"long query", "GET", path + "?labelSelector=" + strings.Repeat("a,", 100000) + "a", "", "", 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := a.do(t, c.method, c.path, c.body, "Content-Type", c.media)
			if r.code != c.code || !strings.Contains(r.status.Message, c.text) {
				t.Errorf("got %d %.300s, want %d %s", r.code, r.status.Message, c.code, c.text)
			}
		})
	}
	if m := a.must(t, 201, "POST", sets, object(1500<<10)); at(m, "metadata.name") != "big" {
		t.Error("an object of nearly 1.5 MiB was refused")
	}
	if r := a.raw(t, "HEAD", path, ""); r.code != 405 {
		t.Errorf("HEAD: %d", r.code)
	}
	old := &api{a.Cluster, &http.Client{Transport: &http.Transport{TLSClientConfig: a.TLS()}}} // HTTP/1.1: with HTTP/2 the client itself refuses
	defer old.http.CloseIdleConnections()
	if r := old.raw(t, "GET", path+"?x="+strings.Repeat("y", 2<<20), ""); r.code != http.StatusRequestHeaderFieldsTooLarge && r.code != 414 {
		t.Errorf("a URL of 2 MiB: %d", r.code)
	}
	a.must(t, 200, "GET", path+"/a", "")
	if strings.Contains(a.Said(), "request panicked") {
		t.Errorf("a request panicked: %s", a.Said())
	}
}

// testWatchForms watches in every media type and shape, and in the old way of the path.
func testWatchForms(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	first := at(a.must(t, 201, "POST", path, `{"metadata":{"name":"a","labels":{"x":"y"}}}`), "metadata.resourceVersion").(string)
	from := path + "?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
	for _, c := range []struct{ accept, media, object string }{
		{proto, proto + ";stream=watch", "*v1.ConfigMap"},
		{proto + ";stream=watch", proto + ";stream=watch", "*v1.ConfigMap"},
		{proto + partialOf, proto + ";stream=watch", "*v1.PartialObjectMetadata"},
		{"application/cbor", "application/cbor-seq", "*v1.ConfigMap"},
		{"application/cbor-seq", "application/cbor-seq", "*v1.ConfigMap"},
		{"application/cbor" + partialOf, "application/cbor-seq", "*v1.PartialObjectMetadata"},
		{js, js, "*v1.ConfigMap"},
		{js + ";stream=watch", js, "*v1.ConfigMap"},
		{js + partialOf, js, "*v1.PartialObjectMetadata"},
		{js + tableOf, js, "*v1.Table"},
	} {
		t.Run(c.accept, func(t *testing.T) {
			s := a.watch(t, from, "Accept", c.accept)
			if got := s.resp.Header.Get("Content-Type"); got != c.media {
				t.Errorf("Content-Type %q", got)
			}
			next := reader(t, s, c.media)
			event, raw := next()
			r := reply{header: http.Header{"Content-Type": {strings.TrimSuffix(strings.TrimSuffix(c.media, ";stream=watch"), "-seq")}}, body: string(raw)}
			if got := fmt.Sprintf("%T", decode(t, r)); event != "ADDED" || got != c.object {
				t.Errorf("first: %s %s", event, got)
			}
			event, raw = next()
			r.body = string(raw)
			end := decode(t, r)
			var annotations map[string]string
			if table, ok := end.(*metav1.Table); ok {
				if len(table.Rows) == 1 {
					row := reply{header: r.header, body: string(table.Rows[0].Object.Raw)}
					annotations = decode(t, row).(*metav1.PartialObjectMetadata).Annotations
				}
			} else {
				annotations = end.(metav1.Object).GetAnnotations()
			}
			if event != "BOOKMARK" || annotations["k8s.io/initial-events-end"] != "true" {
				t.Errorf("second: %s %+v", event, end)
			}
		})
	}
	for query, want := range map[string]string{
		"":                          "ADDED a", // legacy: the state, then changes
		"&resourceVersion=0":        "ADDED a",
		"&resourceVersion=" + first: "ADDED late",
		"&sendInitialEvents=false&resourceVersionMatch=NotOlderThan":                              "ADDED late",
		"&resourceVersion=" + first + "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan": "ADDED a",
	} {
		s := a.watch(t, path+"?watch=true"+query)
		if want == "ADDED late" {
			a.must(t, 201, "POST", path, `{"metadata":{"name":"late"}}`)
		}
		s.expect(want)
		s.close()
		a.do(t, "DELETE", path+"/late", "")
	}
	for p, want := range map[string]string{
		"/api/v1/watch/namespaces/" + ns + "/configmaps":                                        "ADDED a",
		"/api/v1/watch/namespaces/" + ns + "/configmaps/a":                                      "ADDED a",
		"/api/v1/watch/configmaps?labelSelector=x%3Dy&fieldSelector=metadata.namespace%3D" + ns: "ADDED a",
		"/api/v1/watch/namespaces/" + ns:                                                        "ADDED " + ns,
		path + "?watch=1&fieldSelector=metadata.name%3Da":                                       "ADDED a",
		"/api/v1/configmaps?watch=1&fieldSelector=metadata.namespace%3D" + ns:                   "ADDED a",
	} {
		a.watch(t, p).expect(want)
	}
	if m := a.must(t, 200, "GET", path+"/a?watch=true", ""); at(m, "kind") != "ConfigMap" {
		t.Errorf("a watch of one object by its path: %v", m)
	}
	for query, want := range map[string]string{
		"sendInitialEvents=true":                            `sendInitialEvents requires setting resourceVersionMatch to NotOlderThan`,
		"sendInitialEvents=false":                           `sendInitialEvents requires setting resourceVersionMatch to NotOlderThan`,
		"sendInitialEvents=true&resourceVersionMatch=Exact": `resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"`,
		"resourceVersionMatch=NotOlderThan":                 `resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided`,
		"resourceVersion=abc":                               `resourceVersion: Invalid value: "abc"`,
	} {
		if r := a.do(t, "GET", path+"?watch=1&"+query, ""); r.code != 422 || !strings.Contains(r.status.Message, want) {
			t.Errorf("%s: %d %s", query, r.code, r.status.Message)
		}
	}
	// The last state, with the revision of the deletion; for who selects, the change that takes it out of sight.
	s := a.watch(t, path+"?watch=1&labelSelector=x%3Dy&resourceVersion="+first)
	moved := a.must(t, 200, "PATCH", path+"/a", `{"metadata":{"labels":{"x":"z"}},"data":{"k":"new"}}`, "Content-Type", "application/merge-patch+json")
	kind, obj := s.next()
	if kind != "DELETED" || at(obj, "metadata.labels.x") != "y" || at(obj, "metadata.resourceVersion") != at(moved, "metadata.resourceVersion") || at(obj, "data") != nil {
		t.Errorf("out of the selector: %s %v", kind, obj)
	}
	s = a.watch(t, path+"?watch=1&resourceVersion="+at(moved, "metadata.resourceVersion").(string))
	a.must(t, 200, "DELETE", path+"/a", "")
	if kind, obj = s.next(); kind != "DELETED" || at(obj, "data.k") != "new" || at(obj, "metadata.resourceVersion") == at(moved, "metadata.resourceVersion") {
		t.Errorf("deleted: %s %v", kind, obj)
	}
}

// reader reads the events of a stream one by one: type and object.
func reader(t *testing.T, s *stream, media string) func() (string, []byte) {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	switch media {
	case proto + ";stream=watch":
		return func() (string, []byte) {
			t.Helper()
			var n [4]byte
			_, err := io.ReadFull(s.resp.Body, n[:])
			fail(err)
			b := make([]byte, binary.BigEndian.Uint32(n[:]))
			_, err = io.ReadFull(s.resp.Body, b)
			fail(err)
			var e metav1.WatchEvent
			_, _, err = protobuf.NewRawSerializer(scheme.Scheme, scheme.Scheme).Decode(b, nil, &e)
			fail(err)
			return e.Type, e.Object.Raw
		}
	case "application/cbor-seq":
		frames := cbor.NewFramer().NewFrameReader(s.resp.Body)
		return func() (string, []byte) {
			t.Helper()
			var b []byte
			for {
				part := make([]byte, 4096)
				n, err := frames.Read(part)
				b = append(b, part[:n]...)
				if errors.Is(err, io.ErrShortBuffer) {
					continue
				}
				fail(err)
				break
			}
			var e metav1.WatchEvent
			fail(direct.Unmarshal(b, &e))
			return e.Type, e.Object.Raw
		}
	}
	return func() (string, []byte) {
		t.Helper()
		if !s.lines.Scan() {
			t.Fatal(s.lines.Err())
		}
		var e metav1.WatchEvent
		_, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(`{"kind":"WatchEvent","apiVersion":"v1",`+s.lines.Text()[1:]), nil, &e)
		fail(err)
		return e.Type, e.Object.Raw
	}
}

// testDeleteOptions holds the ways a client says how to delete.
func testDeleteOptions(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	for _, c := range []struct {
		name, query, body, finalizers string
		code                          int
		want                          string // finalizers after it, "gone", or the error
	}{
		{"plain", "", "", "", 200, "gone"},
		{"a finalizer", "", "", `"example.com/a"`, 200, "[example.com/a]"},
		{"orphan in the query", "propagationPolicy=Orphan", "", "", 200, "[orphan]"},
		{"orphan in the body", "", `{"propagationPolicy":"Orphan"}`, "", 200, "[orphan]"},
		{"the body wins", "propagationPolicy=Orphan", `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}`, "", 200, "gone"},
		{"of another group", "", `{"kind":"DeleteOptions","apiVersion":"apps/v1","propagationPolicy":"Foreground"}`, "", 200, "[foregroundDeletion]"},
		{"orphanDependents", "", `{"orphanDependents":true}`, "", 200, "[orphan]"},
		{"not orphanDependents", "", `{"orphanDependents":false}`, `"example.com/a"`, 202, "[example.com/a]"},
		{"not orphanDependents, gone", "", `{"orphanDependents":false}`, "", 200, "gone"},
		{"grace below zero", "gracePeriodSeconds=-1", "", "", 200, "gone"},
		{"dry run in the query", "dryRun=All", "", "", 200, "[]"},
		{"dry run in the body", "", `{"dryRun":["All"]}`, "", 200, "[]"},
		{"both policies", "", `{"orphanDependents":true,"propagationPolicy":"Orphan"}`, "", 422, "orphanDependents and deletionPropagation cannot be both set"},
		{"unknown policy", "propagationPolicy=Some", "", "", 422, `propagationPolicy: Unsupported value: "Some"`},
		{"unknown dry run", "dryRun=Some", "", "", 422, `dryRun: Unsupported value: ["Some"]: supported values: "All"`},
		{"another kind", "", `{"kind":"Pod","apiVersion":"v1"}`, "", 400, ""},
		{"cut", "", `{"propagationPolicy":`, "", 400, ""},
		{"wrong uid", "", `{"preconditions":{"uid":"x"}}`, "", 409, "Precondition failed: UID in precondition: x, UID in object meta: "},
		{"wrong revision", "", `{"preconditions":{"resourceVersion":"1"}}`, "", 409, "Precondition failed: ResourceVersion in precondition: 1, ResourceVersion in object meta: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(c.name))
			a.must(t, 201, "POST", path, fmt.Sprintf(`{"metadata":{"name":%q,"finalizers":[%s]}}`, name, c.finalizers))
			r := a.do(t, "DELETE", path+"/"+name+"?"+c.query, c.body)
			if r.code != c.code {
				t.Fatalf("got %d %s", r.code, r.body)
			}
			if c.code >= 400 {
				if !strings.Contains(r.status.Message, c.want) {
					t.Errorf("got %s", r.status.Message)
				}
				return
			}
			got := "gone"
			if now := a.do(t, "GET", path+"/"+name, ""); now.code == 200 {
				got = fmt.Sprint(decode(t, now).(*corev1.ConfigMap).Finalizers)
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	sa := "/api/v1/namespaces/" + ns + "/serviceaccounts"
	a.must(t, 201, "POST", sa, `{"metadata":{"name":"x"}}`)
	if m := a.must(t, 200, "DELETE", sa+"/x", ""); at(m, "kind") != "ServiceAccount" || at(m, "metadata.name") != "x" {
		t.Errorf("clients expect the object back: %v", m)
	}
	ns = a.namespace(t)
	path = fmt.Sprintf(cmPath, ns)
	for i := range 6 {
		a.must(t, 201, "POST", path, fmt.Sprintf(`{"metadata":{"name":"c%d"}}`, i))
	}
	count := func() int { return len(at(a.must(t, 200, "GET", path, ""), "items").([]any)) }
	a.must(t, 200, "DELETE", path+"?dryRun=All", "")
	if n := count(); n != 6 {
		t.Errorf("a dry run of all deleted %d", 6-n)
	}
	m := a.must(t, 200, "DELETE", path+"?limit=2", "")
	if n := count(); n != 4 || len(at(m, "items").([]any)) != 2 || at(m, "metadata.continue") == nil {
		t.Errorf("a page: %d left, answer %v", n, m)
	}
	m = a.must(t, 200, "DELETE", path+"?limit=1&continue="+at(m, "metadata.continue").(string), "")
	if n := count(); n != 3 || at(m, "items.0.metadata.name") != "c2" {
		t.Errorf("the next page: %d left, answer %v", n, m)
	}
	a.must(t, 200, "DELETE", path+"?fieldSelector=metadata.name%3Dc4", `{"propagationPolicy":"Background"}`)
	if n := count(); n != 2 {
		t.Errorf("one by a field: %d left", n)
	}
}
