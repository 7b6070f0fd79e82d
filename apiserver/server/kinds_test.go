package server_test

import (
	"fmt"
	"strings"
	"testing"
)

func testSelectors(t *testing.T, a *api) {
	ns := a.namespace(t)
	pods := "/api/v1/namespaces/" + ns + "/pods"
	for _, n := range []string{"a", "b"} {
		a.must(t, 201, "POST", pods, podBody(n))
	}
	bind(t, a, pods, "a", "node-1")
	for query, want := range map[string]string{
		"fieldSelector=spec.nodeName%3Dnode-1":                 "[a]",
		"fieldSelector=spec.nodeName%3D":                       "[b]",
		"fieldSelector=status.phase%3DPending":                 "[a b]",
		"fieldSelector=metadata.name%3Db":                      "[b]",
		"fieldSelector=metadata.name!%3Db":                     "[a]",
		"labelSelector=app%20in%20(a,c)":                       "[a]",
		"labelSelector=!app":                                   "[]",
		"labelSelector=app&fieldSelector=spec.nodeName%3Dnone": "[]",
	} {
		m := a.must(t, 200, "GET", pods+"?"+query, "")
		names := []string{}
		for _, i := range at(m, "items").([]any) {
			names = append(names, at(i, "metadata.name").(string))
		}
		if fmt.Sprint(names) != want {
			t.Errorf("%s: got %v, want %s", query, names, want)
		}
	}
}

func podBody(name string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"app":%q}},"spec":{"containers":[{"name":"c","image":"busybox"}]}}`, name, name)
}

func bind(t *testing.T, a *api, pods, name, node string) {
	t.Helper()
	a.must(t, 201, "POST", pods+"/"+name+"/binding", fmt.Sprintf(`{"metadata":{"name":%q},"target":{"kind":"Node","name":%q}}`, name, node))
}

func testBinding(t *testing.T, a *api) {
	ns := a.namespace(t)
	pods := "/api/v1/namespaces/" + ns + "/pods"
	a.must(t, 201, "POST", pods, podBody("a"))
	bind(t, a, pods, "a", "node-1")
	m := a.must(t, 200, "GET", pods+"/a", "")
	if at(m, "spec.nodeName") != "node-1" || at(m, "status.conditions.0.type") != "PodScheduled" || at(m, "status.conditions.0.status") != "True" {
		t.Errorf("bound pod: %v", m)
	}
	r := a.do(t, "POST", pods+"/a/binding", `{"target":{"kind":"Node","name":"node-2"}}`)
	if r.code != 409 || !strings.Contains(r.status.Message, `already assigned to node "node-1"`) {
		t.Errorf("bound twice: %d %s", r.code, r.status.Message)
	}
	if r = a.do(t, "POST", pods+"/a/binding", `{"target":{"kind":"Node"}}`); r.code != 422 {
		t.Errorf("bound to nothing: %d", r.code)
	}
	r = a.do(t, "PATCH", pods+"/a", `{"spec":{"nodeName":"node-3"}}`, "Content-Type", "application/merge-patch+json")
	if r.code != 422 || !strings.Contains(r.status.Message, "pod updates may not change fields other than") {
		t.Errorf("moved by a patch: %d %s", r.code, r.status.Message)
	}
	m = a.must(t, 201, "POST", pods+"/a/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"a"}}`)
	if at(m, "status") != "Success" {
		t.Errorf("eviction: %v", m)
	}
	m = a.must(t, 200, "GET", pods+"/a", "")
	if at(m, "metadata.deletionTimestamp") == nil || fmt.Sprint(at(m, "metadata.deletionGracePeriodSeconds")) != "30" {
		t.Errorf("an evicted pod on a node has its grace: %v", at(m, "metadata"))
	}
	m = a.must(t, 200, "DELETE", pods+"/a?gracePeriodSeconds=0", "")
	if r = a.do(t, "GET", pods+"/a", ""); r.code != 404 {
		t.Errorf("after a delete without grace: %d (%v)", r.code, m)
	}
	a.must(t, 201, "POST", pods, podBody("unplaced"))
	a.must(t, 200, "DELETE", pods+"/unplaced", "")
	if r = a.do(t, "GET", pods+"/unplaced", ""); r.code != 404 {
		t.Errorf("a pod on no node goes at once: %d", r.code)
	}
	if r = a.do(t, "GET", pods+"/nobody/log", ""); r.code != 404 {
		t.Errorf("log of nothing: %d", r.code)
	}
}

func testScale(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := "/apis/apps/v1/namespaces/" + ns + "/deployments"
	a.must(t, 201, "POST", path, deployment("web", 2))
	m := a.must(t, 200, "GET", path+"/web/scale", "")
	if at(m, "kind") != "Scale" || at(m, "apiVersion") != "autoscaling/v1" || fmt.Sprint(at(m, "spec.replicas")) != "2" || at(m, "status.selector") != "app=web" {
		t.Errorf("scale: %v", m)
	}
	m = a.must(t, 200, "PATCH", path+"/web/scale", `{"spec":{"replicas":5}}`, "Content-Type", "application/merge-patch+json")
	if fmt.Sprint(at(m, "spec.replicas")) != "5" {
		t.Errorf("scaled by patch: %v", m)
	}
	body := strings.Replace(fmt.Sprintf(`{"metadata":{"name":"web","resourceVersion":%q},"spec":{"replicas":1}}`, at(m, "metadata.resourceVersion")), "\n", "", -1)
	a.must(t, 200, "PUT", path+"/web/scale", body)
	if r := a.do(t, "PUT", path+"/web/scale", body); r.code != 409 {
		t.Errorf("stale scale: %d", r.code)
	}
	if r := a.do(t, "PATCH", path+"/web/scale", `{"spec":{"replicas":-1}}`, "Content-Type", "application/merge-patch+json"); r.code != 422 {
		t.Errorf("negative scale: %d", r.code)
	}
	if m = a.must(t, 200, "GET", path+"/web", ""); fmt.Sprint(at(m, "spec.replicas")) != "1" || fmt.Sprint(at(m, "metadata.generation")) != "3" {
		t.Errorf("after scaling: %v", m)
	}
}

func testEvents(t *testing.T, a *api) {
	ns := a.namespace(t)
	a.must(t, 201, "POST", "/api/v1/namespaces/"+ns+"/events", fmt.Sprintf(
		`{"metadata":{"name":"e"},"involvedObject":{"kind":"Pod","namespace":%q,"name":"p"},"reason":"Pulled","message":"hello","type":"Normal","source":{"component":"kubelet"}}`, ns))
	m := a.must(t, 200, "GET", "/apis/events.k8s.io/v1/namespaces/"+ns+"/events/e", "")
	if at(m, "apiVersion") != "events.k8s.io/v1" || at(m, "note") != "hello" || at(m, "regarding.name") != "p" || at(m, "metadata.resourceVersion") == nil {
		t.Errorf("as events.k8s.io: %v", m)
	}
	for path, want := range map[string]string{
		"/api/v1/namespaces/" + ns + "/events?fieldSelector=involvedObject.name%3Dp":                "hello",
		"/apis/events.k8s.io/v1/namespaces/" + ns + "/events?fieldSelector=regarding.name%3Dp":      "hello",
		"/apis/events.k8s.io/v1/namespaces/" + ns + "/events?fieldSelector=regarding.name%3Dnobody": "<nil>",
	} {
		m := a.must(t, 200, "GET", path, "")
		got := at(m, "items.0.note")
		if got == nil {
			got = at(m, "items.0.message")
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, want %s", path, got, want)
		}
	}
}

func testNamespace(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := "/api/v1/namespaces/" + ns
	m := a.must(t, 200, "GET", path, "")
	if at(m, "status.phase") != "Active" || fmt.Sprint(at(m, "spec.finalizers")) != "[kubernetes]" {
		t.Errorf("new namespace: %v", m)
	}
	m = a.must(t, 200, "DELETE", path, "")
	if at(m, "status.phase") != "Terminating" || at(m, "metadata.deletionTimestamp") == nil {
		t.Errorf("deleted namespace: %v", m)
	}
	a.must(t, 200, "PUT", path+"/finalize", fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"finalizers":[]}}`, ns))
	if r := a.do(t, "GET", path, ""); r.code != 404 {
		t.Errorf("after its last finalizer: %d", r.code)
	}
}

func testDiscovery(t *testing.T, a *api) {
	m := a.must(t, 200, "GET", "/api", "")
	if fmt.Sprint(at(m, "versions")) != "[v1]" {
		t.Errorf("/api: %v", m)
	}
	m = a.must(t, 200, "GET", "/apis", "")
	if at(m, "kind") != "APIGroupList" || !strings.Contains(fmt.Sprint(m), "apps/v1") {
		t.Errorf("/apis: %v", m)
	}
	m = a.must(t, 200, "GET", "/apis/apps", "")
	if at(m, "preferredVersion.groupVersion") != "apps/v1" {
		t.Errorf("/apis/apps: %v", m)
	}
	m = a.must(t, 200, "GET", "/apis/apps/v1", "")
	if !strings.Contains(fmt.Sprint(m), "deployments/scale") || !strings.Contains(fmt.Sprint(m), "deploy") {
		t.Errorf("/apis/apps/v1: %v", m)
	}
	r := a.do(t, "GET", "/apis", "", "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	if !strings.Contains(r.header.Get("Content-Type"), "as=APIGroupDiscoveryList") || !strings.Contains(r.body, `"responseKind":{"group":"apps","version":"v1","kind":"Deployment"}`) {
		t.Errorf("aggregated: %s %.300s", r.header.Get("Content-Type"), r.body)
	}
	tag := r.header.Get("ETag")
	if r = a.do(t, "GET", "/apis", "", "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "If-None-Match", tag); r.code != 304 {
		t.Errorf("with its ETag: %d", r.code)
	}
	if r = a.do(t, "GET", "/apis/nothing.here", ""); r.code != 404 {
		t.Errorf("unknown group: %d", r.code)
	}
}
