package server_test

import (
	"fmt"
	"strings"
	"testing"
)

// testContents waits for what a new cluster contains.
func testContents(t *testing.T, a *api) {
	for _, path := range []string{
		"/api/v1/namespaces/default", "/api/v1/namespaces/kube-system", "/api/v1/namespaces/kube-public", "/api/v1/namespaces/kube-node-lease",
		"/api/v1/namespaces/default/services/kubernetes", "/api/v1/namespaces/default/endpoints/kubernetes",
		"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
		"/apis/networking.k8s.io/v1/servicecidrs/kubernetes", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/system-nodes", // each made last
	} {
		until(t, path, func() bool { return a.do(t, "GET", path, "").code == 200 })
	}
	names := func(path string) string {
		var all []string
		for _, i := range at(a.must(t, 200, "GET", path, ""), "items").([]any) {
			all = append(all, at(i, "metadata.name").(string))
		}
		return strings.Join(all, " ")
	}
	if got := names("/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations"); got !=
		"catch-all exempt global-default leader-election node-high system workload-high workload-low" {
		t.Errorf("priority levels: %s", got)
	}
	if got := names("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"); got != "catch-all exempt global-default kube-controller-manager "+
		"kube-scheduler kube-system-service-accounts probes service-accounts system-leader-election system-node-high system-nodes" {
		t.Errorf("flow schemas: %s", got)
	}
	if got := names("/apis/scheduling.k8s.io/v1/priorityclasses"); got != "system-cluster-critical system-node-critical" {
		t.Errorf("priority classes: %s", got)
	}
	var m map[string]any
	until(t, "the service range is ready", func() bool {
		m = a.must(t, 200, "GET", "/apis/networking.k8s.io/v1/servicecidrs/kubernetes", "")
		return at(m, "status.conditions.0.type") == "Ready"
	})
	if at(m, "status.conditions.0.status") != "True" || fmt.Sprint(at(m, "spec.cidrs")) != "[10.96.0.0/16]" {
		t.Errorf("service range: %v", m)
	}
}

func testPlugins(t *testing.T, a *api) {
	ns := a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	a.must(t, 201, "POST", base+"/limitranges", `{"metadata":{"name":"l"},"spec":{"limits":[{"type":"Container","max":{"cpu":"1"},"default":{"cpu":"500m"},"defaultRequest":{"cpu":"100m"}}]}}`)
	m := a.must(t, 201, "POST", base+"/pods", podBody("defaulted"))
	if at(m, "spec.containers.0.resources.limits.cpu") != "500m" || at(m, "spec.containers.0.resources.requests.cpu") != "100m" ||
		!strings.Contains(fmt.Sprint(at(m, "metadata.annotations")), "LimitRanger plugin set: cpu request for container c; cpu limit for container c") {
		t.Errorf("defaulted pod: %v", m)
	}
	if at(m, "status.qosClass") != "Burstable" {
		t.Errorf("class %v", at(m, "status.qosClass"))
	}
	for _, c := range []struct{ name, path, body, words string }{
		{"too big", base + "/pods", `{"metadata":{"name":"big"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"2"}}}]}}`,
			"maximum cpu usage per Container is 1, but limit is 2"},
		{"no runtime class", base + "/pods", `{"metadata":{"name":"r"},"spec":{"runtimeClassName":"none","containers":[{"name":"c","image":"i"}]}}`,
			`pod rejected: RuntimeClass "none" not found`},
		{"no priority class", base + "/pods", `{"metadata":{"name":"r"},"spec":{"priorityClassName":"none","containers":[{"name":"c","image":"i"}]}}`,
			"no PriorityClass with name none was found"},
	} {
		if r := a.do(t, "POST", c.path, c.body); r.code != 403 || !strings.Contains(r.status.Message, c.words) {
			t.Errorf("%s: %d %s", c.name, r.code, r.status.Message)
		}
	}
	const runtimes = "/apis/node.k8s.io/v1/runtimeclasses"
	a.must(t, 201, "POST", runtimes, `{"metadata":{"name":"vm"},"handler":"vm","overhead":{"podFixed":{"cpu":"250m"}},"scheduling":{"nodeSelector":{"vm":"yes"}}}`)
	inVM := func(name string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"runtimeClassName":"vm","containers":[{"name":"c","image":"i"}]}}`, name)
	}
	m = a.must(t, 201, "POST", base+"/pods", inVM("vm"))
	if at(m, "spec.overhead.cpu") != "250m" || at(m, "spec.nodeSelector.vm") != "yes" {
		t.Errorf("pod of a runtime class: %v", m["spec"])
	}
	a.must(t, 200, "DELETE", runtimes+"/vm", "")
	if r := a.do(t, "POST", base+"/pods", inVM("late")); r.code != 403 {
		t.Errorf("a runtime class that is gone: %d", r.code)
	}
	a.must(t, 201, "POST", "/apis/scheduling.k8s.io/v1/priorityclasses", `{"metadata":{"name":"`+ns+`"},"value":77,"preemptionPolicy":"Never"}`)
	m = a.must(t, 201, "POST", base+"/pods", `{"metadata":{"name":"prior"},"spec":{"priorityClassName":"`+ns+`","containers":[{"name":"c","image":"i"}]}}`)
	if fmt.Sprint(at(m, "spec.priority")) != "77" || at(m, "spec.preemptionPolicy") != "Never" {
		t.Errorf("priority: %v", m["spec"])
	}
}

func testEviction(t *testing.T, a *api) {
	ns := a.namespace(t)
	pods := "/api/v1/namespaces/" + ns + "/pods"
	budgets := "/apis/policy/v1/namespaces/" + ns + "/poddisruptionbudgets"
	running := func(name, ready string) {
		t.Helper()
		a.must(t, 201, "POST", pods, fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"app":"x"}},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}`, name))
		a.must(t, 200, "PATCH", pods+"/"+name+"/status", `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"`+ready+`"}]}}`, "Content-Type", "application/merge-patch+json")
	}
	evict := func(name, more string) reply {
		t.Helper()
		return a.do(t, "POST", pods+"/"+name+"/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"`+name+`"}`+more+`}`)
	}
	status := func(budget, status string) {
		t.Helper()
		a.must(t, 200, "PATCH", budgets+"/"+budget+"/status", `{"status":`+status+`}`, "Content-Type", "application/merge-patch+json")
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		running(name, "True")
	}
	running("sick", "False")
	a.must(t, 201, "POST", pods, `{"metadata":{"name":"waiting","labels":{"app":"x"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
	a.must(t, 201, "POST", budgets, `{"metadata":{"name":"x"},"spec":{"minAvailable":2,"selector":{"matchLabels":{"app":"x"}}}}`)
	if r := evict("a", ""); r.code != 429 || r.header.Get("Retry-After") != "10" || !strings.Contains(fmt.Sprint(r.status.Details.Causes), "is still being processed by the server") {
		t.Errorf("a budget nobody has reckoned: %d %v", r.code, r.status)
	}
	status("x", `{"observedGeneration":1,"disruptionsAllowed":1,"currentHealthy":3,"desiredHealthy":2,"expectedPods":3}`)
	if r := evict("a", `,"deleteOptions":{"dryRun":["All"]}`); r.code != 201 {
		t.Errorf("dry run: %d %s", r.code, r.body)
	}
	if r := evict("a", `,"deleteOptions":{"preconditions":{"uid":"x"}}`); r.code != 409 {
		t.Errorf("another pod of that name: %d %s", r.code, r.body)
	}
	status("x", `{"disruptionsAllowed":1,"disruptedPods":null}`)
	if r := evict("a", ""); r.code != 201 {
		t.Fatalf("an allowed eviction: %d %s", r.code, r.body)
	}
	m := a.must(t, 200, "GET", pods+"/a", "")
	if at(m, "metadata.deletionTimestamp") == nil || !strings.Contains(fmt.Sprint(at(m, "status.conditions")), "EvictionByEvictionAPI") {
		t.Errorf("evicted pod: %v", m)
	}
	m = a.must(t, 200, "GET", budgets+"/x", "")
	if fmt.Sprint(at(m, "status.disruptionsAllowed")) != "0" || at(m, "status.disruptedPods.a") == nil {
		t.Errorf("budget: %v", m["status"])
	}
	if r := evict("b", ""); r.code != 429 || r.status.Message != "Cannot evict pod as it would violate the pod's disruption budget." ||
		fmt.Sprint(r.status.Details.Causes) != "[{DisruptionBudget The disruption budget x needs 2 healthy pods and has 3 currently }]" {
		t.Errorf("one too many: %d %+v", r.code, r.status)
	}
	for _, name := range []string{"waiting", "sick"} { // pending; not ready beside enough that are
		if r := evict(name, ""); r.code != 201 {
			t.Errorf("%s: %d %s", name, r.code, r.body)
		}
	}
	a.must(t, 201, "POST", budgets, `{"metadata":{"name":"y"},"spec":{"minAvailable":0,"selector":{}}}`)
	if r := evict("b", ""); r.code != 500 || !strings.Contains(r.status.Message, "more than one PodDisruptionBudget") {
		t.Errorf("two budgets: %d %s", r.code, r.status.Message)
	}
	a.must(t, 200, "PATCH", pods+"/c/status", `{"status":{"phase":"Succeeded"}}`, "Content-Type", "application/merge-patch+json")
	if r := evict("c", ""); r.code != 201 {
		t.Errorf("one that is done: %d %s", r.code, r.body)
	}
	if r := evict("none", ""); r.code != 404 {
		t.Errorf("none: %d", r.code)
	}
	if r := a.do(t, "POST", pods+"/d/eviction", `{"apiVersion":"policy/v1beta1","kind":"Eviction","metadata":{"name":"d"}}`); r.code != 500 {
		t.Errorf("an old client is not understood: %d %s", r.code, r.body)
	}
}

func testBindings(t *testing.T, a *api) {
	ns := a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	a.must(t, 201, "POST", base+"/pods", podBody("p"))
	a.must(t, 201, "POST", base+"/bindings", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}`)
	if m := a.must(t, 200, "GET", base+"/pods/p", ""); at(m, "spec.nodeName") != "n" {
		t.Errorf("bound to %v", at(m, "spec.nodeName"))
	}
	for body, code := range map[string]int{
		`{"metadata":{"name":"p"},"target":{"name":"m"}}`: 409, `{"metadata":{"name":"q"},"target":{"name":"m"}}`: 404,
		`{"target":{"name":"m"}}`: 422, `{"metadata":{"name":"p"}}`: 422, `{"metadata":{"name":"p","namespace":"x"},"target":{"name":"m"}}`: 400,
	} {
		if r := a.do(t, "POST", base+"/bindings", body); r.code != code {
			t.Errorf("%s: got %d, want %d: %s", body, r.code, code, r.status.Message)
		}
	}
}

func testComponents(t *testing.T, a *api) {
	r := a.do(t, "GET", "/api/v1/componentstatuses/etcd-0", "")
	if r.code != 200 || !strings.Contains(r.body, `"status":"True"`) || !strings.Contains(r.header.Get("Warning"), "v1 ComponentStatus is deprecated in v1.19+") {
		t.Errorf("etcd: %d %s %s", r.code, r.header.Get("Warning"), r.body)
	}
	m := a.must(t, 200, "GET", "/api/v1/componentstatuses", "")
	if at(m, "kind") != "ComponentStatusList" || at(m, "items.0.metadata.name") != "controller-manager" || at(m, "items.2.metadata.name") != "scheduler" {
		t.Errorf("got %v", m)
	}
	m = a.must(t, 200, "GET", "/api/v1/componentstatuses", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	if at(m, "kind") != "Table" || fmt.Sprint(at(m, "rows.1.cells")) != "[etcd-0 Healthy ok ]" {
		t.Errorf("table: %v", m)
	}
	if r := a.do(t, "GET", "/api/v1/componentstatuses/none", ""); r.code != 404 {
		t.Errorf("none: %d", r.code)
	}
}

func testProxyRefusals(t *testing.T, a *api) {
	ns := a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	a.must(t, 201, "POST", base+"/pods", podBody("p"))
	a.must(t, 200, "PATCH", base+"/pods/p/status", `{"status":{"podIP":"127.0.0.1","podIPs":[{"ip":"127.0.0.1"}]}}`, "Content-Type", "application/merge-patch+json")
	a.must(t, 201, "POST", base+"/services", `{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}`)
	for _, c := range []struct {
		path string
		code int
	}{
		{base + "/pods/p/proxy/", 400}, {base + "/pods/none/proxy/", 404}, {base + "/services/s/proxy/", 503}, {base + "/services/s:81/proxy/", 503},
		{base + "/services/none/proxy/", 404}, {"/api/v1/nodes/none/proxy/", 404}, {base + "/pods/a:b:c:d/proxy/", 400},
	} {
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "DELETE"} {
			if r := a.raw(t, method, c.path, ""); r.code != c.code {
				t.Errorf("%s %s: got %d", method, c.path, r.code)
			}
		}
	}
	for _, method := range []string{"HEAD", "OPTIONS"} { // these are for whom a proxy leads to
		if r := a.raw(t, method, base+"/pods/p/log", ""); r.code != 405 {
			t.Errorf("%s of a log: got %d", method, r.code)
		}
	}
	m := a.must(t, 200, "GET", "/api/v1", "")
	for _, i := range at(m, "resources").([]any) {
		if name := at(i, "name").(string); strings.HasSuffix(name, "/proxy") && fmt.Sprint(at(i, "verbs")) != "[create delete get patch update]" {
			t.Errorf("%s: %v", name, at(i, "verbs"))
		}
	}
}
