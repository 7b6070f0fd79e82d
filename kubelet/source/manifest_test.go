package source

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/logging"
)

const head = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"

// What is wrong in a manifest is said in the API's words, and never harms the kubelet.
func TestWrongManifests(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "", "there is nothing in it"},
		{"no YAML", "kind: [", "decoding: "},
		{"no object", "[1, 2]", "decoding: "},
		{"wrong type", head + "spec: {containers: 7}", "decoding: "},
		{"another kind", "apiVersion: apps/v1\nkind: Deployment", `apps/v1 "Deployment" is no v1 Pod`},
		{"no name", "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: c, image: i}]}", "metadata.name: Required value"},
		{"bad name", "apiVersion: v1\nkind: Pod\nmetadata: {name: A_b}\nspec: {containers: [{name: c, image: i}]}", `metadata.name: Invalid value: "A_b-n1"`},
		{"a UID that leads elsewhere", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: ../../x}\nspec: {containers: [{name: c, image: i}]}", "metadata.uid: Invalid value"},
		{"no containers", head, "spec.containers: Required value"},
		{"no image", head + "spec: {containers: [{name: c}]}", "spec.containers[0].image: Required value"},
		{"twice", head + "spec: {containers: [{name: c, image: i}, {name: c, image: i}]}", `spec.containers[1].name: Duplicate value: "c"`},
		{"policy", head + "spec: {restartPolicy: Sometimes, containers: [{name: c, image: i}]}", `spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"`},
		{"port", head + "spec: {containers: [{name: c, image: i, ports: [{containerPort: 70000}]}]}", "spec.containers[0].ports[0].containerPort: Invalid value: 70000"},
		{"mount", head + "spec: {containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v}]}]}", `spec.containers[0].volumeMounts[0].name: Not found: "v"`},
		{"way out", head + "spec: {volumes: [{name: v}], containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v, subPath: ../x}]}]}", "must not contain '..'"},
		{"probe", head + "spec: {containers: [{name: c, image: i, livenessProbe: {periodSeconds: 3}}]}", "spec.containers[0].livenessProbe: Required value: must specify a handler type"},
		{"resources", head + "spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]}", "must be less than or equal to cpu limit of 1"},
		{"secret", head + "spec: {volumes: [{name: v, secret: {secretName: s}}], containers: [{name: c, image: i}]}", "spec.volumes[0].secret: Forbidden: static pods may not reference secrets"},
		{"account", head + "spec: {serviceAccountName: a, containers: [{name: c, image: i}]}", "static pods may not reference serviceaccounts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pods, err := manifest([]byte(tc.text), false)
			if err == nil {
				err = static(pods[0], "n1", "file", "f.yaml")
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
		})
	}
}

// A static pod gets what the API would have given it.
func TestDefaults(t *testing.T) {
	pods, err := manifest([]byte(head+`spec:
  hostNetwork: true
  priorityClassName: system-node-critical
  volumes: [{name: v}, {name: h, hostPath: {path: /tmp}}]
  containers:
  - {name: c, image: "r:5000/i", ports: [{containerPort: 80}], readinessProbe: {httpGet: {port: 80}}, resources: {limits: {cpu: 1}}}
  - {name: d, image: "i:1"}
---
# nothing
`), false)
	if err != nil || len(pods) != 1 {
		t.Fatal(pods, err)
	}
	p := pods[0]
	if err := static(p, "N1", "file", "f.yaml"); err != nil {
		t.Fatal(err)
	}
	c := p.Spec.Containers[0]
	probe := c.ReadinessProbe
	for what, ok := range map[string]bool{
		"name":       p.Name == "p-n1" && p.Namespace == "default" && p.Spec.NodeName == "N1",
		"notes":      p.Annotations["kubernetes.io/config.source"] == "file" && p.Annotations["kubernetes.io/config.hash"] == string(p.UID) && p.Annotations["kubernetes.io/config.seen"] != "",
		"priority":   *p.Spec.Priority == 2000001000,
		"toleration": p.Spec.Tolerations[0].Operator == corev1.TolerationOpExists && p.Spec.Tolerations[0].Effect == corev1.TaintEffectNoExecute,
		"policies":   c.ImagePullPolicy == corev1.PullAlways && p.Spec.Containers[1].ImagePullPolicy == corev1.PullIfNotPresent && p.Spec.DNSPolicy == corev1.DNSClusterFirst,
		"port":       c.Ports[0].HostPort == 80 && c.Ports[0].Protocol == corev1.ProtocolTCP,
		"probe":      probe.TimeoutSeconds == 1 && probe.PeriodSeconds == 10 && probe.FailureThreshold == 3 && probe.HTTPGet.Path == "/" && probe.HTTPGet.Scheme == "HTTP",
		"requests":   c.Resources.Requests.Cpu().Value() == 1,
		"volumes":    p.Spec.Volumes[0].EmptyDir != nil && *p.Spec.Volumes[1].HostPath.Type == "",
		"grace":      *p.Spec.TerminationGracePeriodSeconds == 30 && *p.Spec.EnableServiceLinks,
	} {
		if !ok {
			t.Errorf("%s: %+v", what, p)
		}
	}
	again, err := manifest([]byte(head+"spec: {containers: [{name: c, image: i}]}\n---\nkind: Pod\n"), false)
	if !errors.Is(err, errMore) || len(again) != 1 {
		t.Errorf("of two documents: %v, %v", again, err)
	}
}

// The UID follows from node, place and content, not from how it is written.
func TestUID(t *testing.T) {
	uid := func(node, from, place, text string) string {
		t.Helper()
		pods, err := manifest([]byte(text), false)
		if err == nil {
			err = static(pods[0], node, from, place)
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(pods[0].UID)
	}
	text := head + "spec: {containers: [{name: c, image: i}]}"
	first := uid("n1", "file", "a", text)
	if first != uid("n1", "file", "a", "# a comment\n"+text) {
		t.Error("a comment makes another pod")
	}
	for i, other := range []string{uid("n2", "file", "a", text), uid("n1", "http", "a", text), uid("n1", "file", "b", text), uid("n1", "file", "a", strings.Replace(text, "image: i", "image: j", 1))} {
		if other == first {
			t.Errorf("case %d: the same UID", i)
		}
	}
}

// An address may hold a pod or a list; it is asked with the header; what it does not answer for stays.
func TestWeb(t *testing.T) {
	var answer any
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Key") != "secret" {
			t.Error("the header is missing")
		}
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	header, err := Header("Key: secret, Other:x")
	if err != nil {
		t.Fatal(err)
	}
	item := func(name, image string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name}, "spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": image}}}}
	}
	w := &web{address: server.URL, node: "n1", header: header, client: server.Client(), every: time.Hour, log: logging.ForTest(t)}
	var told []string
	look := func() error {
		told = nil
		pods, err := w.ask(t.Context())
		if err == nil {
			w.known = swap(w.known, pods, func(p *corev1.Pod, gone bool) {
				told = append(told, map[bool]string{true: "-", false: "+"}[gone]+p.Name+" "+p.Spec.Containers[0].Image)
			})
		}
		return err
	}
	for _, step := range []struct {
		name   string
		answer any
		status int
		want   string
		bad    bool
	}{
		{"one", item("a", "i"), 200, "+a-n1 i", false},
		{"a list", map[string]any{"apiVersion": "v1", "kind": "PodList", "items": []any{item("a", "i"), item("b", "i")}}, 200, "+b-n1 i", false},
		{"an error", item("c", "i"), 500, "", true},
		{"rubbish", "hello", 200, "", true},
		{"changed", map[string]any{"apiVersion": "v1", "kind": "PodList", "items": []any{item("a", "j")}}, 200, "-a-n1 i -b-n1 i +a-n1 j", false},
		{"none", map[string]any{"apiVersion": "v1", "kind": "PodList", "items": []any{}}, 200, "-a-n1 j", false},
	} {
		answer, status = step.answer, step.status
		err := look()
		if got := strings.Join(told, " "); got != step.want || (err != nil) != step.bad {
			t.Errorf("%s: %q, %v", step.name, got, err)
		}
	}
	if h, err := Header(`{"Key": ["a", "b"]}`); err != nil || len(h.Values("Key")) != 2 {
		t.Errorf("the header of a file is %v, %v", h, err)
	}
	if _, err := Header("nothing"); err == nil {
		t.Error("a header without a value was read")
	}
}

// One file instead of a folder; hidden files and folders are not read; a file that breaks keeps its pod.
func TestScan(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := head + "spec: {containers: [{name: c, image: i}]}"
	write("pod", text)
	write(".hidden.yaml", text)
	if err := os.Mkdir(filepath.Join(dir, "folder.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	var told []string
	tell := func(p *corev1.Pod, gone bool) {
		told = append(told, map[bool]string{true: "-", false: "+"}[gone]+p.Name)
	}
	f := &files{path: dir, node: "n1", log: logging.ForTest(t)}
	f.scan(tell)
	write("pod", "kind: [")
	f.scan(tell)
	write("pod", text)
	f.scan(tell)
	if got := strings.Join(told, " "); got != "+p-n1" {
		t.Errorf("told %q", got)
	}
	told = nil
	f = &files{path: filepath.Join(dir, "pod"), node: "n1", log: logging.ForTest(t)}
	f.scan(tell)
	if err := os.Remove(filepath.Join(dir, "pod")); err != nil {
		t.Fatal(err)
	}
	f.scan(tell)
	if got := strings.Join(told, " "); got != "+p-n1 -p-n1" {
		t.Errorf("of one file, told %q", got)
	}
}

// A folder that comes after the kubelet is found, and its files are heard.
func TestLateFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "manifests")
	told := make(chan string, 4)
	f := &files{path: dir, node: "n1", every: time.Hour, log: logging.ForTest(t)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.run(ctx, func(p *corev1.Pod, gone bool) { told <- map[bool]string{true: "-", false: "+"}[gone] + p.Name })
	}()
	defer func() { stop(); <-ended }()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	hear := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing was heard of %s", want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte(head+"spec: {containers: [{name: c, image: i}]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	hear("+p-n1")
	if err := os.Remove(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	hear("-p-n1")
}
