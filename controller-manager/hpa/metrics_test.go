package hpa

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/client"
)

// server answers paths (with their query) with texts; it counts who asks for a path.
func server(t *testing.T, answers map[string]string, status int) (*client.Clients, func(path string) int64) {
	asked := map[string]*atomic.Int64{}
	for path := range answers {
		asked[path] = &atomic.Int64{}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if r.URL.RawQuery != "" {
			path += "?" + r.URL.Query().Encode()
		}
		text, ok := answers[path]
		if !ok {
			t.Errorf("asked for %s", path)
			http.NotFound(w, r)
			return
		}
		asked[path].Add(1)
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(text, "!") {
			w.WriteHeader(status)
			text = text[1:]
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(s.Close)
	c, err := client.New(&rest.Config{Host: s.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return c, func(path string) int64 { return asked[path].Load() }
}

func TestReadResources(t *testing.T) {
	const pods = "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods?labelSelector=app%3Dweb"
	at := `"timestamp":"2030-01-01T12:00:00Z","window":"30s"`
	text := `{"items":[
		{"metadata":{"name":"p0","namespace":"ns"},` + at + `,"containers":[{"name":"main","usage":{"cpu":"100m","memory":"5"}},{"name":"side","usage":{"cpu":"1500u"}}]},
		{"metadata":{"name":"p1","namespace":"ns"},` + at + `,"containers":[{"name":"main","usage":{"cpu":"1"}},{"name":"side","usage":{}}]},
		{"metadata":{"name":"p2","namespace":"ns"},` + at + `,"containers":[]}]}`
	selector := labels.SelectorFromSet(labels.Set{"app": "web"})
	for _, c := range []struct {
		name      string
		answer    string
		status    int
		container string
		want      map[string]int64
		fails     string
	}{
		{"the sum, of pods of which all containers are known", text, 0, "", map[string]int64{"p0": 102}, ""},
		{"one container where it is known", strings.Replace(text, `"containers":[]`, `"containers":[{"name":"main","usage":{}}]`, 1), 0, "main", map[string]int64{"p0": 100, "p1": 1000}, ""},
		{"no such container", text, 0, "main", nil, "unable to get metrics for resource cpu: failed to get container metrics: container main not present in metrics for pod ns/p2"},
		{"nothing", `{"items":[]}`, 0, "", nil, "unable to get metrics for resource cpu: no metrics returned from resource metrics API"},
		{"nonsense", `[]`, 0, "", nil, "reading the answer of metrics.k8s.io"},
		{"away", `!away`, 503, "", nil, "unable to fetch metrics from resource metrics API: the server is currently unable to handle the request (get pods.metrics.k8s.io)"},
		{"refused", `!{"kind":"Status","message":"because","code":403,"reason":"Forbidden"}`, 403, "", nil, "unable to fetch metrics from resource metrics API: because"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clients, _ := server(t, map[string]string{pods: c.answer}, c.status)
			r := newSource(clients).resource(t.Context(), "ns", selector, "cpu", c.container)
			if !failsWith(r.err, c.fails) {
				t.Fatalf("error %v, want %q", r.err, c.fails)
			}
			if len(r.pods) != len(c.want) {
				t.Errorf("measured %v", r.pods)
			}
			for name, v := range c.want {
				if got := r.pods[name]; got.value != v || !got.at.Equal(noon) || got.window != 30*time.Second {
					t.Errorf("%s has %+v, want %d", name, got, v)
				}
			}
		})
	}
}

func TestReadCustom(t *testing.T) {
	const group, base = "/apis/custom.metrics.k8s.io", "/apis/custom.metrics.k8s.io/v1beta1/namespaces/ns"
	clients, asked := server(t, map[string]string{
		group: `{"kind":"APIGroup","name":"custom.metrics.k8s.io","versions":[{"version":"v1beta1"}],"preferredVersion":{"version":"v1beta1"}}`,
		base + "/pods/*/hits?labelSelector=app%3Dweb&metricLabelSelector=verb%3DGET": `{"items":[
			{"describedObject":{"kind":"Pod","name":"p0"},"metricName":"hits","timestamp":"2030-01-01T12:00:00Z","window":5,"value":"1500m"},
			{"describedObject":{"kind":"Pod","name":"p1"},"metricName":"hits","timestamp":"2030-01-01T12:00:00Z","value":"2"}]}`,
		base + "/metrics/load":      `{"items":[{"describedObject":{"kind":"Namespace","name":"ns"},"value":"7"}]}`,
		base + "/services/web/hits": `{"items":[{"value":"3"},{"value":"4"}]}`,
		"/api/v1":                   `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"services","kind":"Service","namespaced":true},{"name":"services/status","kind":"Service","namespaced":true}]}`,
		base + "/pods/*/odd?labelSelector=app%3Dweb": `!no`,
	}, 404)
	s, kinds, ctx := newSource(clients), newTargets(clients), t.Context()
	selector := labels.SelectorFromSet(labels.Set{"app": "web"})
	r := s.pods(ctx, "ns", selector, autoscalingv2.MetricIdentifier{Name: "hits", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"verb": "GET"}}})
	if r.err != nil || r.pods["p0"] != (sample{1500, r.pods["p0"].at, 5 * time.Second}) || r.pods["p1"].value != 2000 || r.pods["p1"].window != time.Minute {
		t.Errorf("of pods it reads %+v", r)
	}
	of := func(kind, name, metric string) reading {
		return s.object(ctx, "ns", &autoscalingv2.ObjectMetricSource{DescribedObject: autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: kind, Name: name}, Metric: autoscalingv2.MetricIdentifier{Name: metric}}, kinds)
	}
	if r := of("Namespace", "ns", "load"); r.err != nil || r.value != 7000 {
		t.Errorf("of the namespace it reads %+v", r)
	}
	if r := of("Service", "web", "hits"); !failsWith(r.err, "unable to get metric hits: Service on ns web/unable to fetch metrics from custom metrics API: the custom metrics API server returned 2 results when we asked for exactly one") {
		t.Errorf("of the service it reads %+v", r)
	}
	if r := of("Odd", "web", "hits"); !failsWith(r.err, `unable to map kind Odd to resource: no matches for kind "Odd"`) {
		t.Errorf("of an unknown kind it reads %+v", r)
	}
	if n := asked(group); n != 1 {
		t.Errorf("asked %d times for the versions", n)
	}
	if r := s.pods(ctx, "ns", selector, autoscalingv2.MetricIdentifier{Name: "odd"}); !failsWith(r.err, "unable to get metric odd: unable to fetch metrics from custom metrics API: the server could not find the requested resource (get pods.custom.metrics.k8s.io)") {
		t.Errorf("of an unknown metric it reads %+v", r)
	}
	s.pods(ctx, "ns", selector, autoscalingv2.MetricIdentifier{Name: "odd"})
	if n := asked(group); n != 2 {
		t.Errorf("after an error it asked for the versions %d times", n)
	}
	none, _ := server(t, map[string]string{group: `!{}`}, 404)
	if r := newSource(none).pods(ctx, "ns", selector, autoscalingv2.MetricIdentifier{Name: "hits"}); !failsWith(r.err, "no custom metrics API (custom.metrics.k8s.io) registered") {
		t.Errorf("where nobody serves them it reads %+v", r)
	}
}

func TestReadExternal(t *testing.T) {
	const base = "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/"
	clients, _ := server(t, map[string]string{
		base + "queue?labelSelector=a%3Db": `{"items":[{"value":"2500m"},{"value":"1"}]}`, base + "empty": `{"items":[]}`,
	}, 0)
	s := newSource(clients)
	if r := s.external(t.Context(), "ns", autoscalingv2.MetricIdentifier{Name: "queue", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}); r.err != nil || r.value != 3500 {
		t.Errorf("reads %+v", r)
	}
	if r := s.external(t.Context(), "ns", autoscalingv2.MetricIdentifier{Name: "empty"}); !failsWith(r.err, "unable to get external metric ns/empty/nil: no metrics returned from external metrics API") {
		t.Errorf("reads %+v", r)
	}
	bad := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Odd"}}}
	if r := s.external(t.Context(), "ns", autoscalingv2.MetricIdentifier{Name: "queue", Selector: bad}); r.err == nil || !r.spec {
		t.Errorf("by a bad selector it reads %+v", r)
	}
}
