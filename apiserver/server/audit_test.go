package server_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/pkg/testcluster"
)

const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: ["/readyz*"]
- level: None
  users: [system:apiserver]
- level: Metadata
  resources:
  - resources: [secrets, serviceaccounts/token]
  - group: authentication.k8s.io
    resources: [tokenreviews]
- level: RequestResponse
  resources: [{resources: [configmaps]}]
- level: Request
  resources: [{resources: [services, pods]}]
- level: Metadata
`

// trail is the audit log of a server.
type trail struct{ file string }

func (l trail) events(t testing.TB) []auditv1.Event {
	t.Helper()
	b, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	var all []auditv1.Event
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("no event: %v: %.300s", err, lines.Text())
		}
		all = append(all, e)
	}
	return all
}

// of waits for the last event of a request and returns all of them by stage.
func (l trail) of(t testing.TB, id string) map[auditv1.Stage]auditv1.Event {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		found := map[auditv1.Stage]auditv1.Event{}
		for _, e := range l.events(t) {
			if string(e.AuditID) != id {
				continue
			}
			if _, twice := found[e.Stage]; twice {
				t.Fatalf("%s: stage %s stands twice", id, e.Stage)
			}
			found[e.Stage] = e
		}
		if _, ok := found[auditv1.StageResponseComplete]; ok {
			return found
		}
	}
	t.Fatalf("request %s has no last event", id)
	return nil
}

func client(c *testcluster.Cluster, t *testing.T, user string, groups ...string) *api {
	cfg := c.TLSOf(user, groups...)
	if user == "" {
		cfg.Certificates, cfg.GetClientCertificate = nil, nil
	}
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	return a
}

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	log := trail{filepath.Join(dir, "logs", "audit.log")}
	c := testcluster.Start(t, "--audit-policy-file="+policy, "--audit-log-path="+log.file)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *testcluster.Cluster, trail)
	}{
		{"events", testAuditEvents},
		{"bodies", testAuditBodies},
		{"watch", testAuditWatch},
		{"secrets", testAuditSecrets},
		{"kubectl", testAuditKubectl},
		{"once", testAuditOnce},
		{"file", func(t *testing.T, _ *testcluster.Cluster, log trail) {
			is, err := os.Stat(log.file)
			if err != nil || is.Mode().Perm() != 0o600 {
				t.Errorf("the log: %v, %v", is.Mode(), err)
			}
		}},
		{"reload", func(t *testing.T, c *testcluster.Cluster, log trail) { testAuditReload(t, c, log, policy) }},
		{"full disk", testAuditFullDisk},
		{"bad flags", testAuditBadFlags},
		{"drain", testAuditDrain},
	} {
		if !t.Run(test.name, func(t *testing.T) { test.run(t, c, log) }) {
			return
		}
	}
}

func testAuditEvents(t *testing.T, c *testcluster.Cluster, log trail) {
	admin, alice, nobody := client(c, t, "admin", "system:masters"), client(c, t, "alice", "dev"), client(c, t, "")
	cm := fmt.Sprintf(cmPath, "default")
	for i, q := range []struct {
		name         string
		as           *api
		method, path string
		body         string
		header       []string
		code         int
		check        func(t *testing.T, e auditv1.Event)
	}{
		{"not found", admin, "GET", cm + "/none", "", nil, 404, func(t *testing.T, e auditv1.Event) {
			if s := e.ResponseStatus; s.Reason != metav1.StatusReasonNotFound || s.Message == "" || s.Status != "Failure" {
				t.Errorf("status %+v", s)
			}
			if o := e.ObjectRef; *o != (auditv1.ObjectReference{Resource: "configmaps", Namespace: "default", Name: "none", APIVersion: "v1"}) {
				t.Errorf("object %+v", o)
			}
			if e.Annotations["authorization.k8s.io/decision"] != "allow" {
				t.Errorf("annotations %v", e.Annotations)
			}
			if _, said := e.Annotations["authorization.k8s.io/reason"]; !said {
				t.Errorf("no reason: %v", e.Annotations)
			}
		}},
		{"create", admin, "POST", cm, `{"metadata":{"name":"audited"}}`, nil, 201, func(t *testing.T, e auditv1.Event) {
			if e.ObjectRef.Name != "audited" || e.Verb != "create" || e.User.Username != "admin" || !slices.Contains(e.User.Groups, "system:masters") {
				t.Errorf("got %+v", e)
			}
		}},
		{"again", admin, "POST", cm, `{"metadata":{"name":"audited"}}`, nil, 409, nil},
		{"a name made here", admin, "POST", "/api/v1/namespaces/default/secrets", `{"metadata":{"generateName":"made-"}}`, nil, 201, func(t *testing.T, e auditv1.Event) {
			if !strings.HasPrefix(e.ObjectRef.Name, "made-") || len(e.ObjectRef.Name) == 5 {
				t.Errorf("object %+v", e.ObjectRef)
			}
		}},
		{"forbidden", alice, "GET", "/api/v1/namespaces/default/secrets/x", "", nil, 403, func(t *testing.T, e auditv1.Event) {
			if e.Annotations["authorization.k8s.io/decision"] != "forbid" || e.User.Username != "alice" {
				t.Errorf("got %v, %+v", e.Annotations, e.User)
			}
		}},
		{"a bad token", nobody, "GET", "/api/v1/pods", "", []string{"Authorization", "Bearer no.such.token"}, 401, func(t *testing.T, e auditv1.Event) {
			if e.User.Username != "" || e.ResponseStatus.Message != "Authentication failed, attempted: bearer" {
				t.Errorf("user %+v, status %+v", e.User, e.ResponseStatus)
			}
		}},
		{"anonymous", nobody, "GET", "/version", "", nil, 200, func(t *testing.T, e auditv1.Event) {
			if e.User.Username != "system:anonymous" {
				t.Errorf("user %+v", e.User)
			}
		}},
		{"a bad timeout", admin, "GET", "/api/v1/pods?timeout=x", "", nil, 400, nil},
		{"a path", admin, "GET", "/version", "", nil, 200, func(t *testing.T, e auditv1.Event) {
			if e.ObjectRef != nil || e.Verb != "get" || e.RequestURI != "/version" || e.ResponseStatus.Status != "" {
				t.Errorf("got %+v", e)
			}
		}},
		{"no path", admin, "GET", "/apis/none/v1/things", "", nil, 404, nil},
		{"impersonation", admin, "GET", "/version", "", []string{"Impersonate-User", "bob", "Impersonate-Group", "ops"}, 200, func(t *testing.T, e auditv1.Event) {
			if u := e.ImpersonatedUser; e.User.Username != "admin" || u == nil || u.Username != "bob" || !slices.Contains(u.Groups, "ops") {
				t.Errorf("user %+v as %+v", e.User, u)
			}
		}},
		{"impersonation forbidden", alice, "GET", "/version", "", []string{"Impersonate-User", "bob"}, 403, func(t *testing.T, e auditv1.Event) {
			if e.User.Username != "alice" || e.ImpersonatedUser != nil || e.Annotations["authorization.k8s.io/decision"] != "forbid" {
				t.Errorf("user %+v as %+v, %v", e.User, e.ImpersonatedUser, e.Annotations)
			}
		}},
		{"where from", admin, "GET", "/version", "", []string{"X-Forwarded-For", "192.0.2.7", "User-Agent", "tester/1"}, 200, func(t *testing.T, e auditv1.Event) {
			if !slices.Equal(e.SourceIPs, []string{"192.0.2.7", "127.0.0.1"}) || e.UserAgent != "tester/1" {
				t.Errorf("from %v, agent %q", e.SourceIPs, e.UserAgent)
			}
		}},
		{"delete", admin, "DELETE", cm + "/audited", `{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}`, nil, 200, func(t *testing.T, e auditv1.Event) {
			if !strings.Contains(string(e.RequestObject.Raw), `"gracePeriodSeconds":0`) || e.ResponseStatus.Status != "Success" {
				t.Errorf("sent %s, status %+v", e.RequestObject.Raw, e.ResponseStatus)
			}
		}},
	} {
		t.Run(q.name, func(t *testing.T) {
			id := fmt.Sprintf("events-%d", i)
			r := q.as.do(t, q.method, q.path, q.body, append(q.header, "Audit-ID", id)...)
			if r.code != q.code || r.header.Get("Audit-ID") != id {
				t.Fatalf("got %d, Audit-ID %q: %s", r.code, r.header.Get("Audit-ID"), r.body)
			}
			got := log.of(t, id)
			if len(got) != 2 || got[auditv1.StageRequestReceived].ResponseStatus != nil {
				t.Errorf("stages: %v", got)
			}
			e := got[auditv1.StageResponseComplete]
			if int(e.ResponseStatus.Code) != q.code || e.RequestURI != q.path || e.Kind != "Event" || e.APIVersion != "audit.k8s.io/v1" {
				t.Errorf("got %+v", e)
			}
			if e.RequestReceivedTimestamp.IsZero() || e.StageTimestamp.Before(&e.RequestReceivedTimestamp) {
				t.Errorf("times: %v, %v", e.RequestReceivedTimestamp, e.StageTimestamp)
			}
			if q.check != nil {
				q.check(t, e)
			}
		})
	}
	if id := admin.do(t, "GET", "/version", "").header.Get("Audit-ID"); log.of(t, id)[auditv1.StageResponseComplete].RequestURI != "/version" {
		t.Errorf("an ID made here: %q", id)
	}
	id := admin.do(t, "GET", "/readyz", "").header.Get("Audit-ID")
	if id == "" || slices.ContainsFunc(log.events(t), func(e auditv1.Event) bool { return string(e.AuditID) == id }) {
		t.Errorf("what the policy leaves out: %q", id)
	}
}

// Bodies are in the events in JSON whatever the client speaks, and without managed fields.
func testAuditBodies(t *testing.T, c *testcluster.Cluster, log trail) {
	admin := client(c, t, "admin", "system:masters")
	cm := fmt.Sprintf(cmPath, "default")
	ask := func(code int, method, path, body string, header ...string) auditv1.Event {
		t.Helper()
		r, err := admin.try(t.Context(), method, path, body, header...)
		if err != nil || r.code != code {
			t.Fatalf("%s %s: %d, %v: %s", method, path, r.code, err, r.body)
		}
		return log.of(t, r.header.Get("Audit-ID"))[auditv1.StageResponseComplete]
	}
	has := func(e auditv1.Event, sent, answer string) {
		t.Helper()
		var in, out string
		if e.RequestObject != nil {
			in = string(e.RequestObject.Raw)
		}
		if e.ResponseObject != nil {
			out = string(e.ResponseObject.Raw)
		}
		if !strings.Contains(in, sent) || sent == "" && in != "" {
			t.Errorf("%s %s: sent %q, want %q", e.Verb, e.RequestURI, in, sent)
		}
		if !strings.Contains(out, answer) || answer == "" && out != "" {
			t.Errorf("%s %s: answered %q, want %q", e.Verb, e.RequestURI, out, answer)
		}
		if strings.Contains(in+out, "managedFields") {
			t.Errorf("%s %s: managed fields: %q, %q", e.Verb, e.RequestURI, in, out)
		}
	}
	has(ask(201, "POST", cm, `{"metadata":{"name":"b"},"data":{"k":"v1"}}`), `"k":"v1"`, `"uid":"`)
	has(ask(200, "GET", cm+"/b", ""), "", `"kind":"ConfigMap"`)
	has(ask(200, "GET", cm+"/b", "", "Accept", proto), "", `"k":"v1"`)
	has(ask(200, "GET", cm, "", "Accept", proto), "", `"kind":"ConfigMapList"`)
	has(ask(200, "GET", cm, ""), "", `"kind":"ConfigMapList"`)
	has(ask(200, "GET", cm, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"), "", `"kind":"Table"`)
	has(ask(200, "PATCH", cm+"/b", `{"data":{"k":"v2"}}`, "Content-Type", "application/merge-patch+json"), `{"data":{"k":"v2"}}`, `"k":"v2"`)
	has(ask(200, "PATCH", cm+"/b", `[{"op":"add","path":"/data/j","value":"x"}]`, "Content-Type", "application/json-patch+json"), `"op":"add"`, `"j":"x"`)
	has(ask(200, "PATCH", cm+"/b?fieldManager=me&force=true", "apiVersion: v1\nkind: ConfigMap\ndata:\n  k: v3\n", "Content-Type", "application/apply-patch+yaml"),
		`"k":"v3"`, `"k":"v3"`)
	has(ask(404, "GET", cm+"/none", ""), "", `"reason":"NotFound"`)
	has(ask(200, "DELETE", cm+"/b", ""), "", `"status":"Success"`)
	// At the level Request only what was sent is there.
	has(ask(201, "POST", "/api/v1/namespaces/default/services", `{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}`), `"port":80`, "")
	has(ask(200, "GET", "/api/v1/namespaces/default/services/s", ""), "", "")
	// A path has no objects.
	has(ask(200, "GET", "/apis", ""), "", "")

	cfg := c.Config("admin", "system:masters")
	cfg.ContentType = proto
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kube.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "protobuf"}, Data: map[string]string{"k": "from protobuf"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	all := log.events(t)
	if !slices.ContainsFunc(all, func(e auditv1.Event) bool {
		return e.Verb == "create" && e.RequestObject != nil && e.ResponseObject != nil &&
			strings.Contains(string(e.RequestObject.Raw), `"k":"from protobuf"`) && strings.Contains(string(e.ResponseObject.Raw), `"k":"from protobuf"`)
	}) {
		t.Error("nothing of a create in protobuf")
	}
}

func testAuditWatch(t *testing.T, c *testcluster.Cluster, log trail) {
	admin := client(c, t, "admin", "system:masters")
	r := admin.do(t, "GET", fmt.Sprintf(cmPath, "default")+"?watch=true&timeoutSeconds=1", "", "Audit-ID", "watch")
	if r.code != 200 {
		t.Fatal(r.body)
	}
	got := log.of(t, "watch")
	if len(got) != 3 || got[auditv1.StageResponseStarted].ResponseStatus.Code != 200 || got[auditv1.StageResponseComplete].Verb != "watch" {
		t.Errorf("got %+v", got)
	}
	if got[auditv1.StageResponseComplete].ResponseObject != nil {
		t.Error("the events of a watch are recorded")
	}
}

// What a secret or a token says is nowhere in the log at Metadata.
func testAuditSecrets(t *testing.T, c *testcluster.Cluster, log trail) {
	admin := client(c, t, "admin", "system:masters")
	const marker, coded = "hidden-in-a-secret", "aGlkZGVuLWluLWEtc2VjcmV0"
	secrets := "/api/v1/namespaces/default/secrets"
	admin.must(t, 201, "POST", secrets, `{"metadata":{"name":"s"},"stringData":{"k":"`+marker+`"}}`)
	admin.must(t, 200, "GET", secrets+"/s", "")
	admin.must(t, 200, "GET", secrets, "")
	admin.must(t, 200, "PATCH", secrets+"/s", `{"stringData":{"j":"`+marker+`"}}`, "Content-Type", "application/merge-patch+json")
	if r := admin.do(t, "PUT", secrets+"/s", `{"metadata":{"name":"s"},"type":"other","stringData":{"k":"`+marker+`"}}`); r.code != 422 {
		t.Fatalf("%d: %s", r.code, r.body)
	}
	if r := admin.do(t, "POST", secrets, `{"metadata":{"name":"t"},"data":{"k":"`+marker+`!"}}`); r.code != 400 {
		t.Fatalf("%d: %s", r.code, r.body)
	}
	account := "/api/v1/namespaces/default/serviceaccounts/default/token"
	issued := admin.do(t, "POST", account, `{"spec":{}}`)
	if issued.code != 201 {
		t.Fatal(issued.body)
	}
	var answer struct{ Status struct{ Token string } }
	if err := json.Unmarshal([]byte(issued.body), &answer); err != nil {
		t.Fatal(err)
	}
	token := answer.Status.Token
	id := log.of(t, issued.header.Get("Audit-ID"))[auditv1.StageResponseComplete].Annotations["authentication.kubernetes.io/issued-credential-id"]
	admin.must(t, 201, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{"token":"`+token+`"}}`)
	admin.do(t, "GET", "/api/v1/pods", "", "Authorization", "Bearer "+token)
	nobody := client(c, t, "")
	r := nobody.do(t, "GET", "/api/v1/pods", "", "Authorization", "Bearer "+token)
	user := log.of(t, r.header.Get("Audit-ID"))[auditv1.StageResponseComplete].User
	if used := user.Extra["authentication.kubernetes.io/credential-id"]; !slices.Equal(used, []string{id}) || !strings.HasPrefix(id, "JTI=") || id == "JTI=" {
		t.Errorf("a token known as %q is used by %+v", id, user)
	}
	r = nobody.do(t, "GET", "/api/v1/pods", "", "Authorization", "Bearer "+token+"x")
	log.of(t, r.header.Get("Audit-ID"))
	text, err := os.ReadFile(log.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{marker, coded, token, strings.Split(token, ".")[2]} {
		if bytes.Contains(text, []byte(hidden)) {
			i := bytes.Index(text, []byte(hidden))
			t.Errorf("the log has %q: …%s", hidden, text[max(0, i-600):min(len(text), i+100)])
		}
	}
}

func testAuditKubectl(t *testing.T, c *testcluster.Cluster, log trail) {
	cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", "bin", "kubectl"), "--kubeconfig="+c.Kubeconfig("kim", "system:masters"),
		"create", "secret", "generic", "by-kubectl", "--from-literal=k=v")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !slices.ContainsFunc(log.events(t), func(e auditv1.Event) bool {
		return e.User.Username == "kim" && e.Verb == "create" && e.ObjectRef.Name == "by-kubectl" && strings.HasPrefix(e.UserAgent, "kubectl/")
	}) {
		t.Error("kubectl left no trace")
	}
}
