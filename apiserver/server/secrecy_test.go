package server_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/pkg/testcluster"
)

// TestSecrecy does with secrets and tokens what clients do with them, well and badly, and then looks for them everywhere but in the
// answers that are to have them: the log at debug level, the audit log at Metadata, error texts, warnings, events, metrics and
// profiles.
func TestSecrecy(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	audited := filepath.Join(dir, "audit.log")
	c := testcluster.Start(t, "--log-level=debug", "--audit-policy-file="+policy, "--audit-log-path="+audited)
	admin, nobody := client(c, t, "admin", "system:masters"), client(c, t, "")

	const marker = "Marker-7391-of-a-secret"
	coded := base64.StdEncoding.EncodeToString([]byte(marker))
	hidden := []string{marker, coded}
	var told []string // all that the server says where no secret belongs
	note := func(where, text string) { told = append(told, where+"\n"+text) }

	secrets := "/api/v1/namespaces/default/secrets"
	kept := func(code int, method, path, body string, header ...string) {
		t.Helper()
		r := admin.do(t, method, path, body, header...)
		if r.code != code {
			t.Fatalf("%s %s: got %d, want %d: %s", method, path, r.code, code, r.body)
		}
		note("headers of "+method, fmt.Sprint(r.header))
		note("the log", c.Said()) // only its end is kept
		if code >= 400 {
			note(fmt.Sprintf("the answer to %s %s %q", method, path, body), r.body)
		}
	}
	merge := []string{"Content-Type", "application/merge-patch+json"}
	jsonPatch := []string{"Content-Type", "application/json-patch+json"}
	kept(201, "POST", secrets, `{"metadata":{"name":"s"},"stringData":{"k":"`+marker+`"}}`)
	kept(201, "POST", secrets+"?fieldValidation=Warn", `{"metadata":{"name":"warned"},"unknown":"`+marker+`","stringData":{"k":"`+marker+`","k":"`+marker+`"}}`)
	kept(400, "POST", secrets+"?fieldValidation=Strict", `{"metadata":{"name":"strict"},"unknown":"`+marker+`","stringData":{"k":"`+marker+`"}}`)
	kept(409, "POST", secrets, `{"metadata":{"name":"s"},"stringData":{"k":"`+marker+`"}}`)
	kept(422, "POST", secrets, `{"metadata":{"name":"tls"},"type":"kubernetes.io/tls","stringData":{"k":"`+marker+`"}}`)
	kept(422, "POST", secrets, `{"metadata":{"name":"docker"},"type":"kubernetes.io/dockerconfigjson","stringData":{".dockerconfigjson":"`+marker+`"}}`)
	kept(422, "POST", secrets, `{"metadata":{"name":"docker"},"type":"kubernetes.io/dockercfg","stringData":{".dockercfg":"`+marker+`"}}`)
	kept(400, "POST", secrets, `{"metadata":{"name":"bad"},"data":{"k":"`+marker+`!"}}`)
	kept(400, "POST", secrets, `{"metadata":{"name":"bad"},"data":["`+marker+`"]}`)
	kept(400, "POST", secrets, `{"metadata":{"name":"bad"},"stringData":{"k":"`+marker+`"`)
	kept(400, "POST", secrets, `{"metadata":{"name":"bad"},"stringData":"`+marker+`"}`)
	kept(400, "POST", secrets, "kind: Secret\nstringData:\n  k: "+marker+"\n bad", "Content-Type", "application/yaml")
	kept(415, "POST", secrets, marker, "Content-Type", "text/plain")
	kept(200, "PUT", secrets+"/s", `{"metadata":{"name":"s"},"stringData":{"k":"`+marker+`","j":"2"}}`)
	kept(409, "PUT", secrets+"/s", `{"metadata":{"name":"s","resourceVersion":"1"},"stringData":{"k":"`+marker+`"}}`)
	kept(200, "PATCH", secrets+"/s", `{"data":{"l":"`+coded+`"}}`, merge...)
	kept(400, "PATCH", secrets+"/s", `{"data":{"l":"`+marker+`!"}}`, merge...)
	kept(422, "PATCH", secrets+"/s", `[{"op":"test","path":"/data/k","value":"bm9uZQ=="}]`, jsonPatch...)
	kept(422, "PATCH", secrets+"/s", `[{"op":"remove","path":"/data/none"}]`, jsonPatch...)
	kept(200, "PATCH", secrets+"/s", `{"immutable":true}`, merge...)
	kept(422, "PATCH", secrets+"/s", `{"stringData":{"k":"other"}}`, merge...)
	kept(409, "PATCH", secrets+"/s?fieldManager=me", "apiVersion: v1\nkind: Secret\nstringData:\n  k: x\ndata:\n  k: eA==\n", "Content-Type", "application/apply-patch+yaml")
	kept(200, "GET", secrets, "")
	cfg := c.Config("admin", "system:masters")
	cfg.ContentType = proto
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kube.CoreV1().Secrets("default").Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "protobuf"}, StringData: map[string]string{"k": marker},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	token := at(admin.must(t, 201, "POST", "/api/v1/namespaces/default/serviceaccounts/default/token", `{"spec":{}}`), "status.token").(string)
	hidden = append(hidden, token, strings.Split(token, ".")[2])
	review := "/apis/authentication.k8s.io/v1/tokenreviews"
	for _, text := range []string{token, token + "x", strings.Split(token, ".")[1], "x." + token} {
		admin.must(t, 201, "POST", review, `{"spec":{"token":"`+text+`"}}`)
		for _, header := range []string{"Bearer " + text, "Basic " + text, text} {
			r := nobody.do(t, "GET", "/api/v1/pods", "", "Authorization", header)
			note("answer to a token", r.body+fmt.Sprint(r.header))
			note("the log", c.Said())
		}
		r := nobody.do(t, "GET", "/api/v1/pods?access_token=none", "", "Sec-WebSocket-Protocol", "base64url.bearer.authorization.k8s.io."+text)
		note("answer to a token of a web socket", r.body+fmt.Sprint(r.header))
	}
	kept(422, "POST", "/api/v1/namespaces/default/serviceaccounts/default/token", `{"spec":{"expirationSeconds":1}}`)

	for _, path := range []string{
		"/metrics", "/debug/pprof/goroutine?debug=2", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap?debug=1", "/debug/pprof/allocs?debug=1",
		"/debug/pprof/heap", "/debug/pprof/goroutine", "/api/v1/events", "/apis/events.k8s.io/v1/events", "/readyz?verbose",
		"/api/v1/componentstatuses",
	} {
		r, err := admin.try(t.Context(), "GET", path, "")
		if err != nil || r.code != 200 {
			t.Fatalf("%s: %d, %v", path, r.code, err)
		}
		note(path, r.body)
	}
	last := admin.do(t, "GET", "/version", "").header.Get("Audit-ID")
	trail{audited}.of(t, last)
	b, err := os.ReadFile(audited)
	if err != nil {
		t.Fatal(err)
	}
	note("the audit log", string(b))
	said := c.Said()
	if !strings.Contains(said, `"level":"debug"`) {
		t.Errorf("no debug log: %.300s", said)
	}
	note("the log", said)
	for _, text := range told {
		where, _, _ := strings.Cut(text, "\n")
		for _, secret := range hidden {
			if i := strings.Index(text[len(where):], secret); i >= 0 {
				i += len(where)
				t.Errorf("%.100s has %.30q: …%s", where, secret, text[max(len(where), i-300):min(len(text), i+60)])
			}
		}
	}
}
