package server_test

import (
	"net/http"
	"strings"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

// TestHoles: ways round the rules that were open once, or that one might think are.
func TestHoles(t *testing.T) {
	c := testcluster.Start(t)
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"namespaces in namespaces", holesOfNamespaces}, {"reading verbs that do", holesOfVerbs}, {"strange methods", holesOfMethods},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
}

const everything = `{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}`

// Who rules in one namespace has no right on what is in none, and on no other namespace, however he writes the path.
func holesOfNamespaces(t *testing.T, a *api) {
	ns, other := a.namespace(t), a.namespace(t)
	m := a.mallory(t, ns, "olga", everything)
	in := "/api/v1/namespaces/" + ns
	m.must(t, 200, "GET", in, "")
	m.no(t, 403, "", "GET", "/api/v1/namespaces/"+other, "")
	for _, path := range []string{"/namespaces/" + other, "/namespaces/" + other + "/status", "/namespaces", "/namespaces/" + ns, "/nodes", "/persistentvolumes"} {
		for _, method := range []string{"GET", "PUT", "PATCH", "DELETE", "POST"} {
			r := m.do(t, method, in+path, `{"metadata":{"name":"`+other+`","labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`, "Content-Type", map[string]string{"PATCH": patchType}[method])
			if r.code != 404 {
				t.Errorf("%s %s: got %d %.200s", method, path, r.code, r.body)
			}
		}
	}
	m.no(t, 404, "", "PUT", in+"/namespaces/"+other+"/finalize", `{"metadata":{"name":"`+other+`"}}`)
	m.no(t, 404, "", "GET", "/api/v1/watch/namespaces/"+ns+"/namespaces/"+other+"?timeoutSeconds=1", "")
	m.no(t, 404, "", "GET", "/api/v1/watch/namespaces/"+ns+"/namespaces?timeoutSeconds=1", "")
	m.no(t, 404, "", "GET", in+"/namespaces?fieldSelector=metadata.name%3D"+ns, "")
	m.no(t, 404, "", "GET", roles+"/namespaces/"+ns+"/clusterroles/cluster-admin", "")
	m.no(t, 404, "", "POST", roles+"/namespaces/"+ns+"/clusterrolebindings", `{"metadata":{"name":"x"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"}}`)
	if s := a.must(t, 200, "GET", "/api/v1/namespaces/"+other, ""); at(s, "metadata.labels.pod-security.kubernetes.io/enforce") != nil || at(s, "status.phase") != "Active" {
		t.Errorf("the other namespace was changed: %v", s)
	}
}

// Who may only read does nothing: no token, no eviction, no binding, nothing run in a container.
func holesOfVerbs(t *testing.T, a *api) {
	ns := a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	pod := `{"spec":{"containers":[{"name":"c","image":"i"}]},"metadata":{"name":"`
	a.must(t, 201, "POST", base+"/pods", pod+`p"}}`)
	a.must(t, 201, "POST", base+"/pods", strings.Replace(pod, `{"spec":{`, `{"spec":{"nodeName":"gone",`, 1)+`placed"}}`)
	m := a.mallory(t, ns, "rita", `{"apiGroups":["*"],"resources":["*"],"verbs":["get","list","watch"]}`)
	for _, c := range []struct{ path, body string }{
		{"/serviceaccounts/default/token", `{"spec":{}}`},
		{"/pods/p/binding", `{"target":{"kind":"Node","name":"n"}}`},
		{"/pods/p/eviction", `{"metadata":{"name":"p"}}`},
		{"/bindings", `{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}`},
	} {
		m.no(t, 405, "", "GET", base+c.path, c.body)
		m.no(t, 403, "", "POST", base+c.path, c.body)
		m.no(t, 405, "", "GET", strings.Replace(base, "/v1/", "/v1/watch/", 1)+c.path+"?timeoutSeconds=1", c.body)
	}
	m.no(t, 405, "", "GET", base+"/finalize", `{"metadata":{"name":"`+ns+`"},"spec":{}}`)
	for _, sub := range []string{"exec?command=sh&stdout=1", "attach?stdout=1", "portforward?ports=80"} {
		m.no(t, 403, "cannot create resource", "GET", base+"/pods/placed/"+sub, "", "Connection", "Upgrade", "Upgrade", "websocket")
		m.no(t, 403, "cannot create resource", "GET", base+"/pods/placed/"+sub, "")
	}
	m.must(t, 200, "GET", base+"/pods/p", "")
	for _, path := range []string{"/pods//log/x", "/serviceaccounts//token/x", "/pods//binding/x", "/pods/p/status/x", "/pods/p/log/x"} {
		m.no(t, 404, "", "GET", base+path, "")
	}
	if p := a.must(t, 200, "GET", base+"/pods/p", ""); at(p, "spec.nodeName") != nil || at(p, "metadata.deletionTimestamp") != nil {
		t.Errorf("the pod was changed: %v", p)
	}
}

// Methods that HTTP does not know are no other way to say a verb.
func holesOfMethods(t *testing.T, a *api) {
	base := "/api/v1/namespaces/" + a.namespace(t)
	a.must(t, 201, "POST", base+"/secrets", `{"metadata":{"name":"s"}}`)
	for _, method := range []string{"get", "delete", "LIST", "WATCH", "CREATE", "UPDATE", "DELETECOLLECTION", "*"} {
		for _, path := range []string{"/secrets", "/secrets/s", "/pods/p/log"} {
			a.no(t, 405, "", method, base+path, `{"metadata":{"name":"s"}}`)
		}
	}
	a.must(t, 200, "GET", base+"/secrets/s", "")
}
