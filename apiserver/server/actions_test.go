package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

// TestActions drives what acts instead of storing, what admission adds, and what a new cluster contains.
func TestActions(t *testing.T) {
	c := testcluster.Start(t, "--advertise-address=192.0.2.1")
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"tokens", testTokens}, {"tokens that are refused", testTokenRequests}, {"issuer's documents", testDocuments},
		{"who am I", testWhoAmI}, {"access reviews", testAccessReviews}, {"answers in other forms", testActionForms},
		{"what a new cluster contains", testContents}, {"admission", testPlugins}, {"evictions", testEviction}, {"bindings", testBindings},
		{"component statuses", testComponents}, {"proxies that are refused", testProxyRefusals},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
}

// bearer is a client that has nothing but a token.
func (a *api) bearer(token string) *http.Client {
	cfg := a.TLS()
	cfg.GetClientCertificate, cfg.Certificates = nil, nil
	return &http.Client{Transport: &withToken{token, &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}}
}

type withToken struct {
	token string
	next  http.RoundTripper
}

func (w *withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+w.token)
	return w.next.RoundTrip(r)
}

// as is the API seen by somebody with a client certificate.
func (a *api) as(t *testing.T, user string, groups ...string) *api {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: a.TLSOf(user, groups...)}}
	t.Cleanup(client.CloseIdleConnections)
	return &api{a.Cluster, client}
}

const (
	tokenReviews  = "/apis/authentication.k8s.io/v1/tokenreviews"
	accessReviews = "/apis/authorization.k8s.io/v1/"
)

func testTokens(t *testing.T, a *api) {
	ns := a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	robot := a.must(t, 201, "POST", base+"/serviceaccounts", `{"metadata":{"name":"robot"}}`)
	pod := a.must(t, 201, "POST", base+"/pods", `{"metadata":{"name":"p"},"spec":{"serviceAccountName":"robot","nodeName":"somewhere","containers":[{"name":"c","image":"i"}]}}`)
	m := a.must(t, 201, "POST", base+"/serviceaccounts/robot/token", fmt.Sprintf(
		`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":[],"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p","uid":%q}}}`,
		at(pod, "metadata.uid")))
	token, _ := at(m, "status.token").(string)
	if token == "" || at(m, "status.expirationTimestamp") == nil || fmt.Sprint(at(m, "spec.expirationSeconds")) != "3600" ||
		fmt.Sprint(at(m, "spec.audiences")) != "[https://kubernetes.default.svc.cluster.local]" || at(m, "metadata.name") != "robot" {
		t.Fatalf("token request: %v", m)
	}
	review := func(token, more string) map[string]any {
		t.Helper()
		return a.must(t, 201, "POST", tokenReviews, fmt.Sprintf(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{"token":%q%s}}`, token, more))
	}
	m = review(token, "")
	if at(m, "status.authenticated") != true || at(m, "status.user.username") != "system:serviceaccount:"+ns+":robot" ||
		at(m, "status.user.uid") != at(robot, "metadata.uid") || fmt.Sprint(at(m, "status.audiences")) != "[https://kubernetes.default.svc.cluster.local]" {
		t.Errorf("review: %v", m["status"])
	}
	extra, _ := at(m, "status.user").(map[string]any)["extra"].(map[string]any)
	if fmt.Sprint(extra["authentication.kubernetes.io/pod-name"]) != "[p]" || fmt.Sprint(extra["authentication.kubernetes.io/node-name"]) != "[somewhere]" {
		t.Errorf("extra: %v", extra)
	}
	if m = review(token, `,"audiences":["vault"]`); at(m, "status.authenticated") == true || !strings.Contains(fmt.Sprint(at(m, "status.error")), "invalid for the target audiences") {
		t.Errorf("review for another audience: %v", m["status"])
	}
	if m = review("nonsense", ""); at(m, "status.authenticated") == true || at(m, "status.error") == nil {
		t.Errorf("review of nonsense: %v", m["status"])
	}
	if r := a.do(t, "POST", tokenReviews, `{"spec":{}}`); r.code != 400 || r.status.Message != "token is required for TokenReview in authentication" {
		t.Errorf("review of nothing: %d %s", r.code, r.status.Message)
	}
	robots := &api{a.Cluster, a.bearer(token)}
	m = robots.must(t, 201, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{}`)
	if at(m, "status.userInfo.username") != "system:serviceaccount:"+ns+":robot" {
		t.Errorf("the bearer is %v", m["status"])
	}
	if r := robots.do(t, "GET", base+"/pods", ""); r.code != 403 {
		t.Errorf("a service account without rights lists pods: %d", r.code)
	}
	robots.must(t, 200, "GET", "/openid/v1/jwks", "")
	a.must(t, 200, "DELETE", base+"/pods/p?gracePeriodSeconds=0", "")
	if m = review(token, ""); at(m, "status.authenticated") == true {
		t.Errorf("review after the pod went: %v", m["status"])
	}
	if r := robots.do(t, "GET", "/api", ""); r.code != 401 {
		t.Errorf("a token of a pod that is gone is let in: %d", r.code)
	}
	if strings.Contains(a.Said(), token) {
		t.Error("the log shows a token")
	}
}

func testTokenRequests(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := "/api/v1/namespaces/" + ns + "/serviceaccounts/default/token"
	a.must(t, 201, "POST", "/api/v1/namespaces/"+ns+"/secrets", `{"metadata":{"name":"s"}}`)
	a.must(t, 201, "POST", "/api/v1/namespaces/"+ns+"/serviceaccounts", `{"metadata":{"name":"other"}}`)
	a.must(t, 201, "POST", "/api/v1/namespaces/"+ns+"/pods", `{"metadata":{"name":"p"},"spec":{"serviceAccountName":"other","nodeName":"n1","containers":[{"name":"c","image":"i"}]}}`)
	for _, c := range []struct {
		name, path, body string
		code             int
		words            string
	}{
		{"short", path, `{"spec":{"expirationSeconds":599}}`, 422, "may not specify a duration less than 10 minutes"},
		{"long", path, `{"spec":{"expirationSeconds":4294967297}}`, 422, "may not specify a duration larger than 2^32 seconds"},
		{"no such account", strings.Replace(path, "default", "none", 1), `{}`, 404, `serviceaccounts "none" not found`},
		{"another name", path, `{"metadata":{"name":"other"}}`, 400, "does not match the name"},
		{"another namespace", path, `{"metadata":{"namespace":"other"}}`, 400, "does not match the namespace"},
		{"no such pod", path, `{"spec":{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"none"}}}`, 404, `pods "none" not found`},
		{"another's pod", path, `{"spec":{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p"}}}`, 400, "different serviceaccount name"},
		{"another secret's uid", path, `{"spec":{"boundObjectRef":{"kind":"Secret","apiVersion":"v1","name":"s","uid":"x"}}}`, 409, "does not match the UID in record"},
		{"a map", path, `{"spec":{"boundObjectRef":{"kind":"ConfigMap","apiVersion":"v1","name":"s"}}}`, 400, "cannot bind token to object of type"},
		{"another kind", path, `{"apiVersion":"v1","kind":"Pod"}`, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := a.do(t, "POST", c.path, c.body); r.code != c.code || !strings.Contains(r.status.Message, c.words) {
				t.Errorf("got %d %s", r.code, r.status.Message)
			}
		})
	}
	node := a.as(t, "system:node:n1", "system:nodes")
	if r := node.do(t, "POST", path, `{}`); r.code != 403 || !strings.Contains(r.status.Message, "no relationship found between node 'n1' and this object") {
		t.Errorf("a kubelet gets any account's token: %d %s", r.code, r.status.Message)
	}
	if r := node.do(t, "POST", strings.Replace(path, "default", "other", 1), `{}`); r.code != 403 || !strings.Contains(r.status.Message, "not bound to a pod") {
		t.Errorf("a kubelet gets any token: %d %s", r.code, r.status.Message)
	}
	uid := at(a.must(t, 200, "GET", "/api/v1/namespaces/"+ns+"/pods/p", ""), "metadata.uid")
	body := fmt.Sprintf(`{"spec":{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p","uid":%q}}}`, uid)
	node.must(t, 201, "POST", strings.Replace(path, "default", "other", 1), body)
	if r := a.as(t, "system:node:n2", "system:nodes").do(t, "POST", strings.Replace(path, "default", "other", 1), body); r.code != 403 {
		t.Errorf("a kubelet gets a token of a pod elsewhere: %d", r.code)
	}
}

func testDocuments(t *testing.T, a *api) {
	m := a.must(t, 200, "GET", "/.well-known/openid-configuration", "")
	if at(m, "issuer") != "https://kubernetes.default.svc.cluster.local" || at(m, "jwks_uri") != strings.Replace(a.URL(), "127.0.0.1", "192.0.2.1", 1)+"/openid/v1/jwks" {
		t.Errorf("got %v", m)
	}
	if r := a.do(t, "GET", "/openid/v1/jwks", ""); r.header.Get("Content-Type") != "application/jwk-set+json" || !strings.Contains(r.body, `"kid"`) {
		t.Errorf("keys: %s %s", r.header.Get("Content-Type"), r.body)
	}
	if r := a.as(t, "somebody").do(t, "GET", "/openid/v1/jwks", ""); r.code != 403 {
		t.Errorf("anybody reads the keys: %d", r.code)
	}
}

func testWhoAmI(t *testing.T, a *api) {
	m := a.as(t, "jane", "devs").must(t, 201, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews",
		`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview","metadata":{}}`)
	if at(m, "status.userInfo.username") != "jane" || fmt.Sprint(at(m, "status.userInfo.groups")) != "[devs system:authenticated]" || at(m, "kind") != "SelfSubjectReview" {
		t.Errorf("got %v", m)
	}
	cfg := a.TLS()
	cfg.GetClientCertificate = nil
	nobody := &api{a.Cluster, &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}}
	if r := nobody.do(t, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{}`); r.code != 401 {
		t.Errorf("nobody asks who he is: %d", r.code)
	}
}

func testAccessReviews(t *testing.T, a *api) {
	ns := a.namespace(t)
	for _, c := range []struct {
		name, path, body string
		code             int
		allowed          any
		words            string
	}{
		{"masters", "subjectaccessreviews", `{"spec":{"groups":["system:masters"],"resourceAttributes":{"verb":"delete","resource":"nodes"}}}`, 201, true, ""},
		{"the scheduler binds", "subjectaccessreviews", `{"spec":{"user":"system:kube-scheduler","resourceAttributes":{"verb":"create","resource":"pods","subresource":"binding"}}}`, 201, true, ""},
		{"the scheduler reads secrets", "subjectaccessreviews", `{"spec":{"user":"system:kube-scheduler","resourceAttributes":{"verb":"get","resource":"secrets"}}}`, 201, false, ""},
		{"anybody reads health", "subjectaccessreviews", `{"spec":{"user":"x","nonResourceAttributes":{"verb":"get","path":"/healthz"}}}`, 201, true, ""},
		{"nobody", "subjectaccessreviews", `{"spec":{"nonResourceAttributes":{"verb":"get","path":"/healthz"}}}`, 422, nil, "at least one of user or group must be specified"},
		{"nothing", "subjectaccessreviews", `{"spec":{"user":"x"}}`, 422, nil, "exactly one of nonResourceAttributes or resourceAttributes must be specified"},
		{"oneself", "selfsubjectaccessreviews", `{"spec":{"resourceAttributes":{"verb":"get","resource":"secrets","namespace":"x"}}}`, 201, true, ""},
		{"here", "namespaces/" + ns + "/localsubjectaccessreviews", `{"spec":{"user":"x","resourceAttributes":{"verb":"get","resource":"secrets","namespace":"` + ns + `"}}}`, 201, false, ""},
		{"elsewhere", "namespaces/" + ns + "/localsubjectaccessreviews", `{"spec":{"user":"x","resourceAttributes":{"verb":"get","resource":"secrets","namespace":"x"}}}`, 422, nil, "must match metadata.namespace"},
		{"another namespace", "namespaces/" + ns + "/localsubjectaccessreviews", `{"metadata":{"namespace":"x"},"spec":{"user":"x"}}`, 400, nil, "does not match the namespace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := a.do(t, "POST", accessReviews+c.path, c.body)
			if r.code != c.code || !strings.Contains(r.status.Message, c.words) {
				t.Fatalf("got %d %s", r.code, r.body)
			}
			var m map[string]any
			if err := json.Unmarshal([]byte(r.body), &m); err != nil {
				t.Fatal(err)
			}
			if c.code == 201 && at(m, "status.allowed") != c.allowed {
				t.Errorf("got %v", m["status"])
			}
		})
	}
	rules := func(who *api) string {
		t.Helper()
		m := who.must(t, 201, "POST", accessReviews+"selfsubjectrulesreviews", `{"spec":{"namespace":"default"}}`)
		return fmt.Sprint(at(m, "status.resourceRules"), at(m, "status.nonResourceRules"))
	}
	if got := rules(a); !strings.Contains(got, "apiGroups:[*] resources:[*] verbs:[*]") {
		t.Errorf("rules of a master: %s", got)
	}
	if got := rules(a.as(t, "jane")); strings.Contains(got, "secrets") || !strings.Contains(got, "selfsubjectreviews") || !strings.Contains(got, "/healthz") {
		t.Errorf("rules of somebody: %s", got)
	}
	if r := a.as(t, "jane").do(t, "POST", accessReviews+"subjectaccessreviews", `{"spec":{"user":"x","nonResourceAttributes":{"verb":"get","path":"/"}}}`); r.code != 403 {
		t.Errorf("somebody asks about others: %d", r.code)
	}
	if r := a.do(t, "POST", accessReviews+"selfsubjectrulesreviews", `{}`); r.code != 400 {
		t.Errorf("rules of no namespace: %d", r.code)
	}
}

func testActionForms(t *testing.T, a *api) {
	path, body := accessReviews+"selfsubjectaccessreviews", `{"spec":{"nonResourceAttributes":{"verb":"get","path":"/x"}}}`
	for accept, code := range map[string]int{
		"application/json;as=Table;v=v1;g=meta.k8s.io": 406, "text/html": 406, "application/yaml": 201,
		"application/vnd.kubernetes.protobuf": 201, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json": 201,
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", a.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", accept)
		resp, err := a.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("%s: got %d, want %d: %.200s", accept, resp.StatusCode, code, text)
		}
	}
	if r := a.do(t, "POST", path, body, "Content-Type", "text/plain"); r.code != 415 {
		t.Errorf("a body of an unknown form: %d", r.code)
	}
	if r := a.do(t, "POST", path+"?fieldValidation=Strict", `{"spec":{"nonsense":1}}`); r.code != 400 || !strings.Contains(r.status.Message, `unknown field "spec.nonsense"`) {
		t.Errorf("an unknown field: %d %s", r.code, r.status.Message)
	}
	if r := a.do(t, "GET", path, ""); r.code != 405 {
		t.Errorf("a question is listed: %d", r.code)
	}
}
