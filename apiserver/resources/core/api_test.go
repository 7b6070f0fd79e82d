package core

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

// What only the whole server can show of the kinds of workloads: that what they are made into is stored, and that the parts
// of a pod change through their own subresources alone.
func TestWorkloadsOverTheAPI(t *testing.T) {
	c := testcluster.Start(t)
	http := &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS()}}
	const core, apps, batch = "/api/v1/namespaces/default/", "/apis/apps/v1/namespaces/default/", "/apis/batch/v1/namespaces/default/"
	const containers = `"containers":[{"name":"c","image":"i"}]`

	for _, step := range []struct {
		name, method, path, body string
		code                     int
		want                     map[string]string // by path in the answer
	}{
		{"job", "POST", batch + "jobs", `{"metadata":{"name":"j"},"spec":{"template":{"spec":{"restartPolicy":"Never",` + containers + `}}}}`, 201,
			map[string]string{"metadata.generation": "1", "metadata.labels.job-name": "j", "spec.completions": "1", "spec.backoffLimit": "6"}},
		{"job, more at once", "PATCH", batch + "jobs/j", `{"spec":{"parallelism":2}}`, 200, map[string]string{"metadata.generation": "2"}},
		{"job, more of it", "PATCH", batch + "jobs/j", `{"spec":{"completions":2}}`, 422, map[string]string{"message": "spec.completions: Invalid value: 2: field is immutable"}},
		{"job, done", "PATCH", batch + "jobs/j/status", `{"status":{"succeeded":1,"startTime":"2026-01-01T00:00:00Z","completionTime":"2026-01-01T00:01:00Z","conditions":[{"type":"SuccessCriteriaMet","status":"True"},{"type":"Complete","status":"True"}]}}`, 200,
			map[string]string{"status.succeeded": "1"}},
		{"jobs that succeeded", "GET", batch + "jobs?fieldSelector=status.successful%3D1", "", 200, map[string]string{"items.0.metadata.name": "j"}},
		{"cron job without schedule", "POST", batch + "cronjobs", `{"metadata":{"name":"c"},"spec":{"jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never",` + containers + `}}}}}}`, 422,
			map[string]string{"message": "spec.schedule: Required value"}},
		{"stateful set", "POST", apps + "statefulsets", `{"metadata":{"name":"s"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{` + containers + `}},
			"volumeClaimTemplates":[{"kind":"PersistentVolumeClaim","metadata":{"name":"v"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}]}}`, 201, map[string]string{"spec.podManagementPolicy": "OrderedReady"}},
		{"stateful set, scaled", "PATCH", apps + "statefulsets/s/scale", `{"spec":{"replicas":3}}`, 200, map[string]string{"spec.replicas": "3", "status.selector": "a=b"}},
		{"daemon set", "POST", apps + "daemonsets", `{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{` + containers + `}}}}`, 201, nil},
		{"daemon set, changed", "PATCH", apps + "daemonsets/d", `{"spec":{"template":{"spec":{"nodeName":"n"}}}}`, 200, map[string]string{"metadata.annotations.deprecated#daemonset#template#generation": "2"}},
		{"replication controller", "POST", core + "replicationcontrollers", `{"metadata":{"name":"r"},"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":{` + containers + `}}}}`, 201, map[string]string{"spec.selector.a": "b"}},
		{"quota of odd things", "POST", core + "resourcequotas", `{"metadata":{"name":"q"},"spec":{"hard":{"beer":"1"}}}`, 422, map[string]string{"message": "must be a standard resource for quota"}},

		{"pod with a debugger", "POST", core + "pods", `{"metadata":{"name":"p"},"spec":{` + containers + `,"ephemeralContainers":[{"name":"d","image":"i"}]}}`, 422, map[string]string{"message": "spec.ephemeralContainers: Forbidden: cannot be set on create"}},
		{"pod", "POST", core + "pods", `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"1"},"limits":{"cpu":"2"}}}]}}`, 201, map[string]string{"status.qosClass": "Burstable"}},
		{"debugger by the pod itself", "PATCH", core + "pods/p", `{"spec":{"ephemeralContainers":[{"name":"d","image":"i"}]}}`, 422, map[string]string{"message": "pod updates may not change fields other than"}},
		{"debugger", "PATCH", core + "pods/p/ephemeralcontainers", `{"metadata":{"labels":{"x":"y"}},"spec":{"ephemeralContainers":[{"name":"d","image":"i"}]}}`, 200,
			map[string]string{"spec.ephemeralContainers.0.name": "d", "metadata.labels": "<nil>", "metadata.generation": "2"}},
		{"no debugger", "PATCH", core + "pods/p/ephemeralcontainers", `{"spec":{"ephemeralContainers":null}}`, 422, map[string]string{"message": `existing ephemeral containers "d" may not be removed`}},
		{"size by the pod itself", "PATCH", core + "pods/p", `{"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"2"}}}]}}`, 422, map[string]string{"message": "pod updates may not change fields other than"}},
		{"size", "PATCH", core + "pods/p/resize", `{"spec":{"containers":[{"name":"c","image":"other","resources":{"requests":{"cpu":"1500m"},"limits":{"cpu":"2"}}}]}}`, 200,
			map[string]string{"spec.containers.0.resources.requests.cpu": "1500m", "spec.containers.0.image": "i", "metadata.generation": "3"}},
		{"size of another class", "PATCH", core + "pods/p/resize", `{"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"2","memory":"1Gi"},"limits":{"cpu":"2","memory":"1Gi"}}}]}}`, 422,
			map[string]string{"message": "Pod QOS Class may not change as a result of resizing"}},
	} {
		r, err := newRequest(step.method, c.URL()+step.path, step.body)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		var last map[string]any
		if err != nil || json.Unmarshal(b, &last) != nil || answer.StatusCode != step.code {
			t.Errorf("%s: %d %s (%v)", step.name, answer.StatusCode, b, err)
			continue
		}
		for path, want := range step.want {
			if got := find(last, path); got != want && !(path == "message" && strings.Contains(got, want)) {
				t.Errorf("%s: %s is %q, want %q", step.name, path, got, want)
			}
		}
	}
}

func newRequest(method, url, body string) (*http.Request, error) {
	r, err := http.NewRequest(method, url, bytes.NewBufferString(body))
	if err == nil {
		r.Header.Set("Content-Type", map[string]string{"PATCH": "application/merge-patch+json"}[method])
		if method == "POST" {
			r.Header.Set("Content-Type", "application/json")
		}
	}
	return r, err
}

// find reads a field: a.0.b; # stands for a dot in a key.
func find(in any, path string) string {
	for part := range strings.SplitSeq(path, ".") {
		part = strings.ReplaceAll(part, "#", ".")
		switch v := in.(type) {
		case map[string]any:
			in = v[part]
		case []any:
			if len(v) == 0 {
				return "<none>"
			}
			in = v[0]
		}
	}
	return strings.Trim(string(encode(in)), `"`)
}

func encode(v any) []byte {
	if v == nil {
		return []byte("<nil>")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return []byte(err.Error())
	}
	var text string
	if json.Unmarshal(b, &text) == nil {
		return []byte(text)
	}
	return b
}
