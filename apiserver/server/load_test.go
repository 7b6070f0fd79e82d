package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Writers of one object that name no revision all succeed, none undoes another's part, and each is answered with its own write.
func testManyWriters(t *testing.T, a *api) {
	path := fmt.Sprintf(cmPath, a.namespace(t))
	a.must(t, 201, "POST", path, `{"metadata":{"name":"hot"},"data":{"kept":"yes"}}`)
	const writers, writes = 8, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range writes {
				key, value := fmt.Sprint("w", w), fmt.Sprint(i)
				r := a.do(t, "PATCH", path+"/hot", fmt.Sprintf(`{"data":{%q:%q}}`, key, value), "Content-Type", "application/merge-patch+json")
				if r.code != 200 || !strings.Contains(r.body, fmt.Sprintf("%q:%q", key, value)) {
					t.Errorf("patch %d of writer %d: %d %s", i, w, r.code, r.body)
				}
			}
		})
	}
	wg.Wait()
	m := a.must(t, 200, "GET", path+"/hot", "")
	for w := range writers {
		if got := at(m, fmt.Sprint("data.w", w)); got != fmt.Sprint(writes-1) {
			t.Errorf("writer %d left %v", w, got)
		}
	}
	if at(m, "data.kept") != "yes" {
		t.Errorf("a member that nobody touched is lost: %v", m)
	}
	for w := range writers {
		wg.Go(func() {
			for i := range writes {
				value := fmt.Sprintf("%d-%d", w, i)
				r := a.do(t, "PUT", path+"/hot", fmt.Sprintf(`{"metadata":{"name":"hot"},"data":{"by":%q}}`, value))
				if r.code != 200 || !strings.Contains(r.body, fmt.Sprintf(`{"by":%q}`, value)) {
					t.Errorf("put %d of writer %d: %d %s", i, w, r.code, r.body)
				}
			}
		})
	}
	wg.Wait()
}

// Watchers that do not read what they are sent hold up nobody.
func testSlowWatchers(t *testing.T, a *api) {
	path := fmt.Sprintf(cmPath, a.namespace(t))
	slow := &api{a.Cluster, &http.Client{Transport: &http.Transport{
		TLSClientConfig: a.TLS(), ForceAttemptHTTP2: true, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 16 << 10},
	}}}
	t.Cleanup(slow.http.CloseIdleConnections)
	const many = 16
	for range many {
		slow.watch(t, path+"?watch=true")
	}
	reading := a.watch(t, path+"?watch=true")
	const writes = 20
	a.must(t, 201, "POST", path, `{"metadata":{"name":"hot"}}`)
	for i := range writes {
		a.must(t, 200, "PUT", path+"/hot", fmt.Sprintf(`{"metadata":{"name":"hot"},"data":{"n":"%d","x":%q}}`, i, strings.Repeat("x", 32<<10)))
	}
	for {
		if _, o := reading.next(); at(o, "data.n") == fmt.Sprint(writes-1) {
			return
		}
	}
}

// A long list is the same in JSON and in pages, whole and in order.
func testLongList(t *testing.T, a *api) {
	path := fmt.Sprintf(cmPath, a.namespace(t))
	const n = 300
	var wg sync.WaitGroup
	for w := range 10 {
		wg.Go(func() {
			for i := w; i < n; i += 10 {
				if r := a.do(t, "POST", path, fmt.Sprintf(`{"metadata":{"name":"c%04d"},"data":{"a":"<&>"}}`, i)); r.code != 201 {
					t.Errorf("create: %d %s", r.code, r.body)
				}
			}
		})
	}
	wg.Wait()
	for _, accept := range []string{"application/json", "application/yaml", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"} {
		r := a.do(t, "GET", path, "", "Accept", accept)
		from := 0
		for i := range n {
			at := strings.Index(r.body[from:], fmt.Sprintf("c%04d", i))
			if at < 0 {
				t.Fatalf("%s: item %d is missing or out of order", accept, i)
			}
			from += at
		}
	}
	m := a.must(t, 200, "GET", path, "")
	if items, _ := at(m, "items").([]any); len(items) != n || at(items[7], "data.a") != "<&>" {
		t.Errorf("%d items", len(items))
	}
}
