package server_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

const (
	flowPath  = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
	levelPath = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations"
	dumpPath  = "/debug/api_priority_and_fairness/"
	// never is a state that does not come: a read of it keeps its seat for some seconds.
	never = "/api/v1/nodes?resourceVersion=9000000000000000&resourceVersionMatch=NotOlderThan"
)

func started(t *testing.T, flags ...string) *api {
	t.Helper()
	c := testcluster.Start(t, flags...)
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	return a
}

// held runs f, which holds a seat for a while, as often as needed for as long as the test has not called the returned function.
func held(t *testing.T, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			f(ctx)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// level is the row of a priority level: its numbers by column.
func (a *api) level(t *testing.T, name string) map[string]string {
	t.Helper()
	lines := strings.Split(a.raw(t, "GET", dumpPath+"dump_priority_levels", "").body, "\n")
	columns := strings.Split(strings.ReplaceAll(lines[0], " ", ""), ",")
	for _, line := range lines[1:] {
		cells := strings.Split(strings.ReplaceAll(line, " ", ""), ",")
		if cells[0] != name {
			continue
		}
		row := map[string]string{}
		for i, c := range cells {
			row[columns[i]] = c
		}
		return row
	}
	return nil
}

// scheduler sends a request as the scheduler, who may list nodes.
const scheduler = "system:kube-scheduler"

// tinyLevel makes a priority level of one seat, for the scheduler alone, and waits until it counts.
func (a *api) tinyLevel(t *testing.T, response string) {
	t.Helper()
	a.must(t, 201, "POST", levelPath, `{"metadata":{"name":"tiny"},"spec":{"type":"Limited","limited":{
		"nominalConcurrencyShares":1,"borrowingLimitPercent":0,"limitResponse":`+response+`}}}`)
	m := a.must(t, 201, "POST", flowPath, `{"metadata":{"name":"tiny"},"spec":{"matchingPrecedence":10,"priorityLevelConfiguration":{"name":"tiny"},
		"distinguisherMethod":{"type":"ByUser"},"rules":[{"subjects":[{"kind":"User","user":{"name":"`+scheduler+`"}}],
		"resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"namespaces":["*"],"clusterScope":true}]}]}}`)
	uid := at(m, "metadata.uid").(string)
	s := a.as(t, scheduler)
	until(t, "the new schema counts", func() bool {
		return s.do(t, "GET", "/api/v1/nodes?limit=1", "").header.Get("X-Kubernetes-PF-FlowSchema-UID") == uid
	})
}

// TestFlowControl drives a server with few seats.
func TestFlowControl(t *testing.T) {
	a := started(t, "--max-requests-inflight=20", "--max-mutating-requests-inflight=10")
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"classification", testClassified}, {"dangling", testDangling}, {"upkeep", testUpkeep}, {"refusal", testRefused}, {"queues", testQueued},
		{"watches", testWatchSeats}, {"flood", testFlood}, {"debug", testDumps},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
	if strings.Contains(a.Said(), "request panicked") {
		t.Errorf("a request panicked: %s", a.Said())
	}
}

func testClassified(t *testing.T, a *api) {
	nobody := &api{a.Cluster, &http.Client{Transport: &http.Transport{TLSClientConfig: a.TLSOf("none")}}}
	nobody.http.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	nobody.http.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = nil
	defer nobody.http.CloseIdleConnections()
	for _, c := range []struct {
		who                 *api
		path, schema, level string
	}{
		{a, "/api/v1/nodes", "exempt", "exempt"},
		{nobody, "/livez", "probes", "exempt"},
		{a.as(t, scheduler), "/api/v1/nodes", "kube-scheduler", "workload-high"},
		{a.as(t, "system:node:a", "system:nodes"), "/api/v1/nodes/a", "system-node-high", "node-high"},
		{a.as(t, "system:node:a", "system:nodes"), "/api/v1/pods", "system-nodes", "system"},
		{a.as(t, "system:serviceaccount:kube-system:x", "system:serviceaccounts"), "/api/v1/pods", "kube-system-service-accounts", "workload-high"},
		{a.as(t, "system:serviceaccount:kube-system:x", "system:serviceaccounts"), "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", "system-leader-election", "leader-election"},
		{a.as(t, "system:serviceaccount:a:x", "system:serviceaccounts"), "/api/v1/pods", "service-accounts", "workload-low"},
		{a.as(t, "somebody"), "/api/v1/pods", "global-default", "global-default"},
		{a.as(t, "somebody"), "/no/such/path", "global-default", "global-default"},
	} {
		uid := func(path string) (u string) {
			until(t, path, func() bool {
				r := a.raw(t, "GET", path, "")
				return r.code == 200 && strings.Contains(r.body, `"uid":"`)
			})
			return at(a.must(t, 200, "GET", path, ""), "metadata.uid").(string)
		}
		schema, level := uid(flowPath+"/"+c.schema), uid(levelPath+"/"+c.level)
		var h http.Header
		until(t, c.path+" is of "+c.schema, func() bool { // whether it is allowed or not
			h = c.who.raw(t, "GET", c.path, "").header
			return h.Get("X-Kubernetes-PF-FlowSchema-UID") == schema
		})
		if h.Get("X-Kubernetes-PF-PriorityLevel-UID") != level {
			t.Errorf("%s: the level is not %s", c.path, c.level)
		}
	}
}

// The state of a schema says whether its level exists, and kubectl shows it.
func testDangling(t *testing.T, a *api) {
	path := flowPath + "/lost"
	a.must(t, 201, "POST", flowPath, `{"metadata":{"name":"lost"},"spec":{"priorityLevelConfiguration":{"name":"nowhere"}}}`)
	state := func(status string) map[string]any {
		t.Helper()
		var m map[string]any
		until(t, "dangling "+status, func() bool {
			m = a.must(t, 200, "GET", path, "")
			return at(m, "status.conditions.0.status") == status
		})
		return m
	}
	m := state("True")
	if at(m, "status.conditions.0.type") != "Dangling" || at(m, "status.conditions.0.reason") != "NotFound" ||
		at(m, "status.conditions.0.message") != `This FlowSchema references the PriorityLevelConfiguration object named "nowhere" but there is no such object` {
		t.Errorf("condition %v", at(m, "status.conditions"))
	}
	a.must(t, 201, "POST", levelPath, `{"metadata":{"name":"nowhere"},"spec":{"type":"Limited","limited":{"limitResponse":{"type":"Reject"}}}}`)
	if m = state("False"); at(m, "status.conditions.0.reason") != "Found" || len(at(m, "status.conditions").([]any)) != 1 {
		t.Errorf("condition %v", at(m, "status.conditions"))
	}
	a.must(t, 200, "DELETE", levelPath+"/nowhere", "")
	state("True")
	kubectl, err := filepath.Abs("../../bin/kubectl")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kubectl); err != nil {
		t.Fatal(err)
	}
	until(t, "kubectl shows it of all", func() bool {
		out, err := exec.Command(kubectl, "--kubeconfig", a.Kubeconfig("admin", "system:masters"), "get", "flowschemas").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		text := string(out)
		return strings.Contains(text, "MISSINGPL") && !strings.Contains(text, "?") && strings.Count(text, "True") == 1
	})
	a.must(t, 200, "DELETE", path, "")
}

// The objects that every cluster has come back, and are as they should be where their owner wants that.
func testUpkeep(t *testing.T, a *api) {
	path := flowPath + "/global-default"
	a.must(t, 200, "DELETE", path, "")
	until(t, "a deleted one comes back", func() bool { return a.do(t, "GET", path, "").code == 200 })
	change := func(annotation string) {
		t.Helper()
		a.must(t, 200, "PATCH", path, `{"metadata":{"annotations":{"apf.kubernetes.io/autoupdate-spec":`+annotation+`}},"spec":{"matchingPrecedence":9901}}`,
			"Content-Type", "application/merge-patch+json")
	}
	change(`"true"`)
	until(t, "a changed one is set right", func() bool { return at(a.must(t, 200, "GET", path, ""), "spec.matchingPrecedence") == 9900.0 })
	change(`null`)
	annotation := func() any {
		m, _ := at(a.must(t, 200, "GET", path, ""), "metadata.annotations").(map[string]any)
		return m["apf.kubernetes.io/autoupdate-spec"]
	}
	until(t, "one that says nothing is its owner's", func() bool { return annotation() == "false" })
	if got := at(a.must(t, 200, "GET", path, ""), "spec.matchingPrecedence"); got != 9901.0 {
		t.Errorf("precedence %v", got)
	}
	// Of a mandatory one, the annotation too is kept, and the spec cannot be changed at all.
	path = levelPath + "/catch-all"
	a.must(t, 200, "PATCH", path, `{"metadata":{"annotations":{"apf.kubernetes.io/autoupdate-spec":"false"}}}`, "Content-Type", "application/merge-patch+json")
	until(t, "the annotation is set right", func() bool { return annotation() == "true" })
	a.must(t, 422, "PATCH", path, `{"spec":{"limited":{"nominalConcurrencyShares":7}}}`, "Content-Type", "application/merge-patch+json")
	// What an older version has left goes.
	a.must(t, 201, "POST", flowPath, `{"metadata":{"name":"old","annotations":{"apf.kubernetes.io/autoupdate-spec":"true"}},"spec":{"priorityLevelConfiguration":{"name":"system"}}}`)
	until(t, "what is not known any more goes", func() bool { return a.do(t, "GET", flowPath+"/old", "").code == 404 })
}

func testRefused(t *testing.T, a *api) {
	a.tinyLevel(t, `{"type":"Reject"}`)
	s := a.as(t, scheduler)
	stop := held(t, func(ctx context.Context) { _, _ = s.try(ctx, "GET", never, "") })
	var r reply
	until(t, "a refusal", func() bool {
		r = a.as(t, scheduler).do(t, "GET", "/api/v1/nodes", "")
		return r.code == 429
	})
	if r.header.Get("Retry-After") != "1" || r.status.Reason != "TooManyRequests" || r.status.Details.RetryAfterSeconds != 1 ||
		!strings.HasPrefix(r.status.Message, "Too many requests, please try again later") || r.header.Get("X-Kubernetes-PF-PriorityLevel-UID") == "" {
		t.Errorf("refused with %+v, %v", r.status, r.header)
	}
	// Others are not concerned, and masters never.
	if r := a.as(t, "system:kube-controller-manager").do(t, "GET", "/api/v1/nodes", ""); r.code == 429 {
		t.Errorf("another level: %d", r.code)
	}
	a.must(t, 200, "GET", "/api/v1/nodes", "")
	stop()
	until(t, "the seat is free again", func() bool { return s.do(t, "GET", "/api/v1/nodes", "").code == 200 })
	metrics := a.raw(t, "GET", "/metrics", "").body
	for _, want := range []string{
		`apiserver_flowcontrol_rejected_requests_total{flow_schema="tiny",priority_level="tiny",reason="concurrency-limit"}`,
		`apiserver_flowcontrol_dispatched_requests_total{flow_schema="tiny",priority_level="tiny"}`,
		`apiserver_flowcontrol_nominal_limit_seats{priority_level="tiny"} 1`,
		`apiserver_flowcontrol_current_limit_seats{priority_level="tiny"} 1`,
		`apiserver_flowcontrol_current_executing_requests{flow_schema="tiny",priority_level="tiny"} 0`,
		`apiserver_flowcontrol_request_wait_duration_seconds_bucket{execute="true",flow_schema="tiny",priority_level="tiny",le="0.005"}`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no metric %s", want)
		}
	}
}

// A level that begins to queue has requests wait instead, as soon as its object says so.
func testQueued(t *testing.T, a *api) {
	a.must(t, 200, "PATCH", levelPath+"/tiny", `{"spec":{"limited":{"limitResponse":{"type":"Queue","queuing":{"queues":1,"handSize":1,"queueLengthLimit":1}}}}}`,
		"Content-Type", "application/merge-patch+json")
	s := a.as(t, scheduler)
	var stops []func()
	for range 2 {
		stops = append(stops, held(t, func(ctx context.Context) { _, _ = s.try(ctx, "GET", never, "") }))
	}
	until(t, "one runs and one waits", func() bool {
		l := a.level(t, "tiny")
		return l["ExecutingRequests"] == "1" && l["WaitingRequests"] == "1" && l["ActiveQueues"] == "1"
	})
	var r reply
	until(t, "the queue is full", func() bool {
		r = s.do(t, "GET", "/api/v1/nodes", "")
		return r.code == 429
	})
	if !strings.Contains(r.status.Message, "waiting") {
		t.Errorf("full: %s", r.status.Message)
	}
	if out := a.raw(t, "GET", dumpPath+"dump_requests?includeRequestDetails=1", "").body; !strings.Contains(out, scheduler) || !strings.Contains(out, "/api/v1/nodes") {
		t.Errorf("requests:\n%s", out)
	}
	for _, stop := range stops {
		stop()
	}
	until(t, "all have left", func() bool { return a.level(t, "tiny")["IsIdle"] == "true" })
}

// A watch has its seat until it has told what there is, and no longer.
func testWatchSeats(t *testing.T, a *api) {
	s := a.as(t, scheduler)
	for _, query := range []string{"", "&resourceVersion=0", "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"} {
		w := s.watch(t, "/api/v1/nodes?watch=1"+query)
		until(t, "the seat is free again", func() bool {
			r := s.do(t, "GET", "/api/v1/nodes", "")
			return r.code == 200 && a.level(t, "tiny")["IsIdle"] == "true"
		})
		w.close()
	}
}

// A flood of one user leaves the requests of another in the same level alone: none is refused.
func testFlood(t *testing.T, a *api) {
	elephant, mouse := a.as(t, "elephant"), a.as(t, "mouse")
	elephant.http.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var mu sync.Mutex
	refused := 0
	for range 400 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r, err := elephant.try(ctx, "GET", "/api/v1/pods", "")
				mu.Lock()
				if err == nil && r.code == 429 {
					refused++
				}
				mu.Unlock()
			}
		})
	}
	for i := range 200 {
		if r := mouse.do(t, "GET", "/api/v1/pods", ""); r.code == 429 {
			t.Fatalf("request %d of the mouse: %s", i, r.status.Message)
		}
	}
}

func testDumps(t *testing.T, a *api) {
	for _, what := range []string{"dump_priority_levels", "dump_queues", "dump_requests"} {
		if r := a.raw(t, "GET", dumpPath+what, ""); r.code != 200 || !strings.HasPrefix(r.body, "PriorityLevelName,") ||
			!strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %.200s", what, r.code, r.body)
		}
		if r := a.as(t, "somebody").raw(t, "GET", dumpPath+what, ""); r.code != 403 {
			t.Errorf("%s for anybody: %d", what, r.code)
		}
	}
}

// TestInflight is what there is without priority and fairness.
func TestInflight(t *testing.T) {
	a := started(t, "--enable-priority-and-fairness=false", "--max-requests-inflight=1", "--max-mutating-requests-inflight=1")
	s := a.as(t, scheduler)
	if h := s.do(t, "GET", "/api/v1/nodes", "").header; h.Get("X-Kubernetes-PF-FlowSchema-UID") != "" {
		t.Errorf("classified: %v", h)
	}
	w := s.watch(t, "/api/v1/nodes?watch=1") // counts for nothing
	defer w.close()
	stop := held(t, func(ctx context.Context) { _, _ = s.try(ctx, "GET", never, "") })
	var r reply
	until(t, "a refusal", func() bool {
		r = s.do(t, "GET", "/api/v1/nodes", "")
		return r.code == 429
	})
	if r.header.Get("Retry-After") != "1" || r.status.Reason != "TooManyRequests" {
		t.Errorf("refused with %+v", r.status)
	}
	a.must(t, 200, "GET", "/api/v1/nodes", "") // a master
	stop()
	until(t, "there is room again", func() bool { return s.do(t, "GET", "/api/v1/nodes", "").code == 200 })
}
