package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// stream is a running watch.
type stream struct {
	t      *testing.T
	lines  *bufio.Scanner
	cancel context.CancelFunc
	resp   *http.Response
}

func (a *api) watch(t *testing.T, path string, header ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, "GET", a.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := a.http.Do(req)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	s := &stream{t, bufio.NewScanner(resp.Body), cancel, resp}
	t.Cleanup(s.close)
	return s
}

func (s *stream) close() {
	s.cancel()
	s.resp.Body.Close()
}

// next waits for an event: its type, and the object.
func (s *stream) next() (string, map[string]any) {
	s.t.Helper()
	if !s.lines.Scan() {
		s.t.Fatalf("the watch ended: %v", s.lines.Err())
	}
	var e struct {
		Type   string
		Object map[string]any
	}
	if err := json.Unmarshal(s.lines.Bytes(), &e); err != nil {
		s.t.Fatalf("%v: %s", err, s.lines.Text())
	}
	return e.Type, e.Object
}

// expect is next that must be "TYPE name".
func (s *stream) expect(want ...string) {
	s.t.Helper()
	for _, w := range want {
		kind, obj := s.next()
		if got := fmt.Sprint(kind, " ", at(obj, "metadata.name")); got != w {
			s.t.Fatalf("got %s, want %s", got, w)
		}
	}
}

func testWatch(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	m := a.must(t, 201, "POST", path, `{"metadata":{"name":"a"}}`)
	rv := at(m, "metadata.resourceVersion").(string)
	from := a.watch(t, path+"?watch=true&resourceVersion="+rv)
	all := a.watch(t, path+"?watch=1")
	only := a.watch(t, path+"?watch=true&labelSelector=x%3Dy&resourceVersion="+rv)
	table := a.watch(t, path+"?watch=true&resourceVersion="+rv, "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	all.expect("ADDED a")
	a.must(t, 201, "POST", path, `{"metadata":{"name":"b"}}`)
	a.must(t, 200, "PATCH", path+"/b", `{"metadata":{"labels":{"x":"y"}}}`, "Content-Type", "application/merge-patch+json")
	a.must(t, 200, "PATCH", path+"/b", `{"data":{"k":"v"}}`, "Content-Type", "application/merge-patch+json")
	a.must(t, 200, "PATCH", path+"/b", `{"metadata":{"labels":{"x":"z"}}}`, "Content-Type", "application/merge-patch+json")
	a.must(t, 200, "DELETE", path+"/b", "")
	for _, s := range []*stream{from, all} {
		s.expect("ADDED b", "MODIFIED b", "MODIFIED b", "MODIFIED b", "DELETED b")
	}
	only.expect("ADDED b", "MODIFIED b", "DELETED b")
	kind, obj := table.next()
	if kind != "ADDED" || at(obj, "rows.0.cells.0") != "b" || at(obj, "columnDefinitions.0.name") != "Name" {
		t.Errorf("first event as a table: %s %v", kind, obj)
	}
	if _, obj = table.next(); at(obj, "columnDefinitions.0") != nil || at(obj, "rows.0.cells.0") != "b" {
		t.Errorf("second event as a table: %v", obj)
	}

	ended := a.watch(t, path+"?watch=true&resourceVersion="+rv+"&timeoutSeconds=1&fieldSelector=metadata.name%3Dnobody")
	if ended.lines.Scan() {
		t.Errorf("a watch for nobody said %s", ended.lines.Text())
	}
	if err := ended.lines.Err(); err != nil {
		t.Errorf("a timed watch ended with %v", err)
	}
	old := a.do(t, "GET", path+"/a?resourceVersion=99999999", "")
	if old.code != 504 || !strings.Contains(old.status.Message, "Too large resource version") {
		t.Errorf("a read from the future: %d %s", old.code, old.status.Message)
	}
}

func testInitialEvents(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := fmt.Sprintf(cmPath, ns)
	for _, n := range []string{"a", "b"} {
		a.must(t, 201, "POST", path, `{"metadata":{"name":"`+n+`"}}`)
	}
	s := a.watch(t, path+"?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
	var names []string
	for range 2 {
		kind, obj := s.next()
		names = append(names, kind+" "+at(obj, "metadata.name").(string))
	}
	slices.Sort(names)
	if fmt.Sprint(names) != "[ADDED a ADDED b]" {
		t.Errorf("initial events: %v", names)
	}
	kind, obj := s.next()
	if kind != "BOOKMARK" || at(obj, "metadata.annotations") == nil || at(obj, "kind") != "ConfigMap" || at(obj, "metadata.resourceVersion") == "" {
		t.Errorf("end of initial events: %s %v", kind, obj)
	}
	if ann := at(obj, "metadata.annotations").(map[string]any); ann["k8s.io/initial-events-end"] != "true" {
		t.Errorf("annotations: %v", ann)
	}
	a.must(t, 201, "POST", path, `{"metadata":{"name":"c"}}`)
	s.expect("ADDED c")
	if r := a.do(t, "GET", path+"?watch=true&sendInitialEvents=true", ""); r.code != 422 {
		t.Errorf("sendInitialEvents without a match rule: %d", r.code)
	}
}
