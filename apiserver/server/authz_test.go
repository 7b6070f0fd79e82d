package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

// TestAuthorization drives who may do what through a real API server: roles as genuine kubectl sees them, kubelets, and attempts to
// get more than one has.
func TestAuthorization(t *testing.T) {
	c := testcluster.Start(t)
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"kubectl auth can-i", testCanI}, {"kubectl auth can-i --list", testCanIList}, {"kubectl auth reconcile", testReconcile},
		{"a kubelet", testKubelet}, {"granting more than one has", testEscalation}, {"the verbs bind and escalate", testBindVerb},
		{"aggregation", testAggregation}, {"reviews with selectors", testSelectorReviews},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
}

const rbacPath = "/apis/rbac.authorization.k8s.io/v1/"

// kubectl runs genuine kubectl as somebody, and returns what it said and whether it was content.
func (a *api) kubectl(t *testing.T, stdin, user string, args ...string) (string, bool) {
	t.Helper()
	bin := filepath.Join("..", "..", "bin", "kubectl")
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("no kubectl: run make tools: %v", err)
	}
	name, group, _ := strings.Cut(user, " ")
	var groups []string
	if group != "" {
		groups = append(groups, group)
	}
	cmd := exec.CommandContext(t.Context(), bin, append([]string{"--kubeconfig=" + a.Kubeconfig(name, groups...)}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err == nil
}

// grant makes a role and binds it to a user, and waits until that counts: a moment later, when the watch cache has it. ns empty: cluster-wide. rules are JSON.
func (a *api) grant(t *testing.T, ns, name, user, rules string) {
	t.Helper()
	roles, bindings, kind := rbacPath+"clusterroles", rbacPath+"clusterrolebindings", "ClusterRole"
	if ns != "" {
		roles, bindings, kind = rbacPath+"namespaces/"+ns+"/roles", rbacPath+"namespaces/"+ns+"/rolebindings", "Role"
	}
	mark := `{"verbs":["know"],"apiGroups":["test"],"resources":["` + name + `"]}`
	a.must(t, 201, "POST", roles, fmt.Sprintf(`{"metadata":{"name":%q},"rules":[%s,%s]}`, name, rules, mark))
	a.must(t, 201, "POST", bindings, fmt.Sprintf(`{"metadata":{"name":%q},"roleRef":{"kind":%q,"name":%q},"subjects":[{"kind":"User","name":%q}]}`, name, kind, name, user))
	until(t, name+" is bound to "+user, func() bool { return a.may(t, user, "know", "test", name, ns) })
}

// may asks whether a user may do something.
func (a *api) may(t *testing.T, user, verb, group, resource, ns string) bool {
	t.Helper()
	m := a.must(t, 201, "POST", accessReviews+"subjectaccessreviews", fmt.Sprintf(
		`{"spec":{"user":%q,"resourceAttributes":{"namespace":%q,"verb":%q,"group":%q,"resource":%q}}}`, user, ns, verb, group, resource))
	return at(m, "status.allowed") == true
}

func testCanI(t *testing.T, a *api) {
	ns := a.namespace(t)
	a.grant(t, ns, "reader", "jane", `{"verbs":["get","list"],"apiGroups":[""],"resources":["pods","pods/log"]},{"verbs":["update"],"apiGroups":["apps"],"resources":["*/scale"]},{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["one"]}`)
	a.grant(t, "", "can-i-"+ns, "joe", `{"verbs":["*"],"apiGroups":[""],"resources":["nodes"]},{"verbs":["get"],"nonResourceURLs":["/logs/*"]}`)
	for _, c := range []struct {
		user, ask string
		ok        bool
		why       string
	}{
		{"jane", "get pods", true, `RBAC: allowed by RoleBinding "reader/` + ns + `" of Role "reader" to User "jane"`},
		{"jane", "get pods --subresource=log", true, ""},
		{"jane", "get pods/x", true, ""},
		{"jane", "delete pods", false, ""},
		{"jane", "get secrets", false, ""},
		{"jane", "get secrets/one", true, ""},
		{"jane", "get secrets/two", false, ""},
		{"jane", "update deployments.apps --subresource=scale", true, ""},
		{"jane", "update deployments.apps", false, ""},
		{"jane", "list pods --all-namespaces", false, ""},
		{"jane", "get /logs/x", false, ""},
		{"jane", "create selfsubjectaccessreviews.authorization.k8s.io", true, ""},
		{"joe", "delete nodes", true, ""},
		{"joe", "get /logs/x", true, ""},
		{"joe", "get /logs", false, ""},
		{"joe", "get pods", false, ""},
		{"root system:masters", "delete secrets", true, ""},
	} {
		args := append([]string{"auth", "can-i", "-n", ns}, strings.Fields(c.ask)...)
		out, ok := a.kubectl(t, "", c.user, args...)
		if said := strings.Contains(out, "yes"); ok != c.ok || said != c.ok || strings.Contains(out, "rror") {
			t.Errorf("%s: can-i %s: %v %q", c.user, c.ask, ok, out)
		}
		if c.why == "" {
			continue
		}
		name, _, _ := strings.Cut(c.user, " ")
		m := a.must(t, 201, "POST", accessReviews+"subjectaccessreviews",
			fmt.Sprintf(`{"spec":{"user":%q,"resourceAttributes":{"namespace":%q,"verb":"get","resource":"pods"}}}`, name, ns))
		if at(m, "status.reason") != c.why {
			t.Errorf("the reason is %v", at(m, "status"))
		}
	}
	path := "/api/v1/namespaces/" + ns + "/pods"
	jane := a.as(t, "jane")
	jane.must(t, 200, "GET", path, "")
	if r := jane.do(t, "DELETE", path+"/x", ""); r.code != 403 || r.status.Message != `pods "x" is forbidden: User "jane" cannot delete resource "pods" in API group "" in the namespace "`+ns+`"` {
		t.Errorf("got %d %s", r.code, r.status.Message)
	}
	a.must(t, 201, "POST", rbacPath+"namespaces/"+ns+"/rolebindings", `{"metadata":{"name":"lost"},"roleRef":{"kind":"Role","name":"none"},"subjects":[{"kind":"User","name":"jane"}]}`)
	until(t, "a binding of no role is told", func() bool {
		r := jane.do(t, "DELETE", path+"/x", "")
		return r.code == 403 && strings.HasSuffix(r.status.Message, `: RBAC: role.rbac.authorization.k8s.io "none" not found`)
	})
	a.must(t, 200, "DELETE", rbacPath+"namespaces/"+ns+"/rolebindings/reader", "")
	until(t, "the binding that went counts no more", func() bool { return jane.do(t, "GET", path, "").code == 403 })
}

func testCanIList(t *testing.T, a *api) {
	ns := a.namespace(t)
	a.grant(t, ns, "some", "anna", `{"verbs":["list"],"apiGroups":[""],"resources":["pods"]},{"verbs":["get"],"apiGroups":[""],"resources":["pods"]},{"verbs":["update"],"apiGroups":["apps"],"resources":["deployments"],"resourceNames":["web"]}`)
	a.grant(t, "", "list-"+ns, "anna", `{"verbs":["get"],"nonResourceURLs":["/logs"]}`)
	out, ok := a.kubectl(t, "", "anna", "auth", "can-i", "--list", "-n", ns)
	lines := map[string]bool{}
	for line := range strings.Lines(out) {
		lines[strings.Join(strings.Fields(line), " ")] = true
	}
	for _, want := range []string{
		"pods [] [] [list get]", "deployments.apps [] [web] [update]", "[/logs] [] [get]",
		"selfsubjectreviews.authentication.k8s.io [] [] [create]", "selfsubjectaccessreviews.authorization.k8s.io [] [] [create]",
		"selfsubjectrulesreviews.authorization.k8s.io [] [] [create]",
	} {
		if !ok || !lines[want] {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "secrets") || strings.Contains(out, "warning") {
		t.Errorf("it says\n%s", out)
	}
	if out, _ = a.kubectl(t, "", "root system:masters", "auth", "can-i", "--list", "-n", ns); !strings.Contains(out, "*.*") {
		t.Errorf("of a master it says\n%s", out)
	}
	out, _ = a.kubectl(t, "", "system:node:n1 system:nodes", "auth", "can-i", "--list", "-n", ns)
	if !strings.Contains(out, "the list may be incomplete: node authorizer does not support user rule resolution") {
		t.Errorf("of a kubelet it says\n%s", out)
	}
}

func testReconcile(t *testing.T, a *api) {
	ns := a.namespace(t)
	manifest := `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: deployer, namespace: ` + ns + `}
rules: [{verbs: [get, list], apiGroups: [apps], resources: [deployments]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: deployers, namespace: ` + ns + `}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: deployer}
subjects: [{kind: User, name: dora, apiGroup: rbac.authorization.k8s.io}]
`
	root := "root system:masters"
	if out, ok := a.kubectl(t, manifest, root, "auth", "reconcile", "-f", "-"); !ok {
		t.Fatalf("it says\n%s", out)
	}
	may := func(verb string) bool { return a.may(t, "dora", verb, "apps", "deployments", ns) }
	until(t, "what was reconciled counts", func() bool { return may("list") })
	if out, _ := a.kubectl(t, "", "dora", "auth", "can-i", "list", "deployments.apps", "-n", ns); !strings.Contains(out, "yes") {
		t.Errorf("kubectl does not see what was reconciled: %s", out)
	}
	// What somebody added stays, unless extra rights and subjects are to go.
	a.must(t, 200, "PATCH", rbacPath+"namespaces/"+ns+"/roles/deployer", `{"rules":[{"verbs":["delete"],"apiGroups":["apps"],"resources":["deployments"]}]}`, "Content-Type", "application/merge-patch+json")
	if out, ok := a.kubectl(t, manifest, root, "auth", "reconcile", "-f", "-"); !ok {
		t.Fatalf("it says\n%s", out)
	}
	until(t, "what was added is there and what was missing too", func() bool { return may("delete") && may("get") })
	if out, ok := a.kubectl(t, manifest, root, "auth", "reconcile", "-f", "-", "--remove-extra-permissions"); !ok {
		t.Fatalf("it says\n%s", out)
	}
	until(t, "extra rights go", func() bool { return !may("delete") && may("list") })
}

func testKubelet(t *testing.T, a *api) {
	ns := a.namespace(t)
	core := "/api/v1/namespaces/" + ns
	for _, s := range []string{"mine", "theirs", "nobodys"} {
		a.must(t, 201, "POST", core+"/secrets", `{"metadata":{"name":"`+s+`"}}`)
	}
	a.must(t, 201, "POST", core+"/serviceaccounts", `{"metadata":{"name":"theirs"}}`)
	pod := func(name, node, secret, account string) {
		a.must(t, 201, "POST", core+"/pods", fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"nodeName":%q,"serviceAccountName":%q,"containers":[{"name":"c","image":"i"}],"volumes":[{"name":"v","secret":{"secretName":%q}}]}}`, name, node, account, secret))
	}
	pod("mine", "n1", "mine", "default")
	pod("theirs", "n2", "theirs", "theirs")
	node := a.as(t, "system:node:n1", "system:nodes")
	until(t, "the pod is known", func() bool { return node.do(t, "GET", core+"/secrets/mine", "").code == 200 })
	for _, name := range []string{"n1", "n2"} {
		a.as(t, "system:node:"+name, "system:nodes").must(t, 201, "POST", "/api/v1/nodes", `{"metadata":{"name":"`+name+`"}}`)
	}
	const none = "no relationship found between node 'n1' and this object"
	for _, c := range []struct {
		what, method, path, body string
		code                     int
		why                      string
	}{
		{"its pod's secret", "GET", core + "/secrets/mine", "", 200, ""},
		{"by its name in a list", "GET", core + "/secrets?fieldSelector=metadata.name%3Dmine", "", 200, ""},
		{"another node's secret", "GET", core + "/secrets/theirs", "", 403, `secrets "theirs" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the namespace "` + ns + `": ` + none},
		{"in a list", "GET", core + "/secrets?fieldSelector=metadata.name%3Dtheirs", "", 403, none},
		{"watching it", "GET", core + "/secrets?watch=1&fieldSelector=metadata.name%3Dtheirs", "", 403, none},
		{"by the old path", "GET", "/api/v1/watch/namespaces/" + ns + "/secrets/theirs", "", 403, none},
		{"a secret of no pod", "GET", core + "/secrets/nobodys", "", 403, none},
		{"a name that is not selected", "GET", core + "/secrets?fieldSelector=metadata.name!%3Dmine", "", 403, "No Object name found"},
		{"a namespace's secrets", "GET", core + "/secrets", "", 403, "No Object name found"},
		{"all secrets", "GET", "/api/v1/secrets", "", 403, "can only read namespaced object of this type"},
		{"its secret, everywhere", "GET", "/api/v1/secrets?fieldSelector=metadata.name%3Dmine", "", 403, "can only read namespaced object of this type"},
		{"writing its secret", "PATCH", core + "/secrets/mine", `{}`, 403, "can only read resources of this type"},
		{"its pods", "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", "", 200, ""},
		{"another's pods", "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", "", 403, "can only list/watch pods with spec.nodeName field selector"},
		{"all pods", "GET", "/api/v1/pods", "", 403, "can only list/watch pods with spec.nodeName field selector"},
		{"another's pod", "GET", core + "/pods/theirs", "", 403, none},
		{"its pod", "GET", core + "/pods/mine", "", 200, ""},
		{"another's pod's status", "PATCH", core + "/pods/theirs/status", `{"status":{"phase":"Failed"}}`, 403, "spec.nodeName set to itself"},
		{"another node", "PATCH", "/api/v1/nodes/n2", `{"metadata":{"labels":{"a":"b"}}}`, 403, `is not allowed to modify node "n2"`},
		{"another node's status", "PATCH", "/api/v1/nodes/n2/status", `{"status":{"phase":"x"}}`, 403, `is not allowed to modify node "n2"`},
		{"deleting itself", "DELETE", "/api/v1/nodes/n1", "", 403, ""},
		{"another's lease", "GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2", "", 403, "can only access node lease with the same name as the requesting node"},
		{"another's token", "POST", core + "/serviceaccounts/theirs/token", `{}`, 403, none},
		{"making a pod", "POST", core + "/pods", `{"metadata":{"name":"x"},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}}`, 403, ""},
		{"a role", "POST", rbacPath + "clusterroles", `{"metadata":{"name":"x"},"rules":[]}`, 403, ""},
		{"exec", "POST", core + "/pods/mine/exec?command=x", "", 403, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			var header []string
			if c.method == "PATCH" {
				header = []string{"Content-Type", "application/merge-patch+json"}
			}
			if r := node.do(t, c.method, c.path, c.body, header...); r.code != c.code || !strings.Contains(r.status.Message, c.why) {
				t.Errorf("got %d %s, want %d %s", r.code, r.status.Message, c.code, c.why)
			}
		})
	}
	a.must(t, 200, "DELETE", core+"/pods/mine?gracePeriodSeconds=0", "")
	until(t, "the secret of a pod that is gone is out of reach", func() bool { return node.do(t, "GET", core+"/secrets/mine", "").code == 403 })
}

func testEscalation(t *testing.T, a *api) {
	ns := a.namespace(t)
	roles, bindings := rbacPath+"namespaces/"+ns+"/roles", rbacPath+"namespaces/"+ns+"/rolebindings"
	// mallory may write roles and bindings of one namespace, and of the cluster, and read pods.
	rights := `{"verbs":["*"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles","rolebindings"]},{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}`
	rights = strings.Replace(rights, `["*"]`, `["get","create","update","patch","delete"]`, 1)
	a.grant(t, ns, "mallory", "mallory", rights)
	a.grant(t, "", "mallory-"+ns, "mallory", `{"verbs":["get","create","update","patch"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles","clusterrolebindings"]}`)
	m := a.as(t, "mallory")
	const (
		secrets = `{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}`
		pods    = `{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}`
		merge   = "application/merge-patch+json"
		lacks   = "is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
	)
	self := `"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mallory"}]`
	m.must(t, 201, "POST", roles, `{"metadata":{"name":"mine"},"rules":[`+pods+`]}`)
	m.must(t, 201, "POST", bindings, `{"metadata":{"name":"mine"},"roleRef":{"kind":"Role","name":"mine"},`+self+`}`)
	a.must(t, 201, "POST", roles, `{"metadata":{"name":"secrets"},"rules":[`+secrets+`]}`)
	a.must(t, 201, "POST", bindings, `{"metadata":{"name":"secrets"},"roleRef":{"kind":"Role","name":"secrets"},"subjects":[]}`)
	a.grant(t, ns, "later", "nobody", secrets) // after which the roles above are known, too
	refused := func(what string, r reply, why string) {
		t.Helper()
		if r.code != 403 || !strings.Contains(r.status.Message, why) {
			t.Errorf("%s: got %d %s", what, r.code, r.status.Message)
		}
	}
	r := m.do(t, "POST", roles, `{"metadata":{"name":"more"},"rules":[`+pods+`,`+secrets+`]}`)
	want := `roles.rbac.authorization.k8s.io "more" is forbidden: user "mallory" (groups=["system:authenticated"]) ` + lacks
	if r.code != 403 || r.status.Message != want {
		t.Errorf("creating a role: got %d %s", r.code, r.status.Message)
	}
	refused("updating a role", m.do(t, "PUT", roles+"/mine", `{"metadata":{"name":"mine"},"rules":[`+secrets+`]}`), lacks)
	refused("patching a role", m.do(t, "PATCH", roles+"/mine", `{"rules":[`+secrets+`]}`, "Content-Type", merge), lacks)
	refused("patching a rule", m.do(t, "PATCH", roles+"/mine", `[{"op":"replace","path":"/rules/0/resources/0","value":"secrets"}]`, "Content-Type", "application/json-patch+json"), lacks)
	refused("patching a role strategically", m.do(t, "PATCH", roles+"/mine", `{"rules":[`+secrets+`]}`, "Content-Type", "application/strategic-merge-patch+json"), lacks)
	apply := `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"%s","namespace":"` + ns + `"},"rules":[` + secrets + `]}`
	refused("applying a role", m.do(t, "PATCH", roles+"/mine?fieldManager=m&force=true", fmt.Sprintf(apply, "mine"), "Content-Type", "application/apply-patch+yaml"), lacks)
	refused("applying a new role", m.do(t, "PATCH", roles+"/applied?fieldManager=m", fmt.Sprintf(apply, "applied"), "Content-Type", "application/apply-patch+yaml"), lacks)
	refused("without writing it", m.do(t, "POST", roles+"?dryRun=All", `{"metadata":{"name":"more"},"rules":[`+secrets+`]}`), lacks)
	refused("a label of a role that has more", m.do(t, "PATCH", roles+"/secrets", `{"metadata":{"labels":{"a":"b"}}}`, "Content-Type", merge), lacks)
	refused("every verb", m.do(t, "POST", roles, `{"metadata":{"name":"more"},"rules":[{"verbs":["*"],"apiGroups":[""],"resources":["pods"]}]}`), `Verbs:["*"]`)
	refused("binding a role", m.do(t, "POST", bindings, `{"metadata":{"name":"more"},"roleRef":{"kind":"Role","name":"secrets"},`+self+`}`), lacks)
	refused("binding a cluster role", m.do(t, "POST", bindings, `{"metadata":{"name":"more"},"roleRef":{"kind":"ClusterRole","name":"cluster-admin"},`+self+`}`), "")
	refused("joining a binding", m.do(t, "PATCH", bindings+"/secrets", `{`+self+`}`, "Content-Type", merge), lacks)
	refused("joining it by an update", m.do(t, "PUT", bindings+"/secrets", `{"metadata":{"name":"secrets"},"roleRef":{"kind":"Role","name":"secrets"},`+self+`}`), lacks)
	refused("joining it by apply", m.do(t, "PATCH", bindings+"/secrets?fieldManager=m&force=true",
		`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"secrets"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"secrets"},`+self+`}`,
		"Content-Type", "application/apply-patch+yaml"), lacks)
	if r := m.do(t, "POST", bindings, `{"metadata":{"name":"more"},"roleRef":{"kind":"Role","name":"none"},`+self+`}`); r.code != 404 {
		t.Errorf("binding a role that does not exist yet: %d %s", r.code, r.status.Message)
	}
	refused("a cluster role of what is held in a namespace", m.do(t, "POST", rbacPath+"clusterroles", `{"metadata":{"name":"more-`+ns+`"},"rules":[`+pods+`]}`), `Resources:["pods"]`)
	refused("paths", m.do(t, "POST", rbacPath+"clusterroles", `{"metadata":{"name":"more-`+ns+`"},"rules":[{"verbs":["get"],"nonResourceURLs":["/metrics"]}]}`), `{NonResourceURLs:["/metrics"], Verbs:["get"]}`)
	refused("everything", m.do(t, "POST", rbacPath+"clusterrolebindings", `{"metadata":{"name":"more-`+ns+`"},"roleRef":{"kind":"ClusterRole","name":"cluster-admin"},`+self+`}`), "")
	if r := m.do(t, "PATCH", bindings+"/mine", `{"roleRef":{"name":"secrets"}}`, "Content-Type", merge); r.code != 422 && r.code != 403 {
		t.Errorf("another role for a binding: %d %s", r.code, r.status.Message)
	}
	m.must(t, 200, "DELETE", roles+"/mine", "")
	if got := m.do(t, "GET", "/api/v1/namespaces/"+ns+"/secrets/x", ""); got.code != 403 {
		t.Errorf("after all that mallory reads secrets: %d", got.code)
	}
}

func testBindVerb(t *testing.T, a *api) {
	ns := a.namespace(t)
	roles, bindings := rbacPath+"namespaces/"+ns+"/roles", rbacPath+"namespaces/"+ns+"/rolebindings"
	const rules = `"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}]`
	a.must(t, 201, "POST", roles, `{"metadata":{"name":"secrets"},`+rules+`}`)
	a.must(t, 201, "POST", roles, `{"metadata":{"name":"more"},`+rules+`}`)
	a.grant(t, ns, "binder", "bea", `{"verbs":["create"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["rolebindings"]},{"verbs":["bind"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"],"resourceNames":["secrets"]}`)
	a.grant(t, ns, "writer", "wim", `{"verbs":["create","patch"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"]},{"verbs":["escalate"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"]}`)
	a.grant(t, ns, "one", "ona", `{"verbs":["create","patch"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"]},{"verbs":["escalate"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"],"resourceNames":["more"]}`)
	bind := func(role string) string {
		return `{"metadata":{"name":"` + role + `"},"roleRef":{"kind":"Role","name":"` + role + `"},"subjects":[{"kind":"User","name":"bea"}]}`
	}
	bea, wim, ona := a.as(t, "bea"), a.as(t, "wim"), a.as(t, "ona")
	if r := bea.do(t, "POST", bindings, bind("more")); r.code != 403 {
		t.Errorf("bea binds what she may not: %d", r.code)
	}
	bea.must(t, 201, "POST", bindings, bind("secrets"))
	until(t, "what bea bound counts", func() bool { return bea.do(t, "GET", "/api/v1/namespaces/"+ns+"/secrets/none", "").code == 404 })
	wim.must(t, 201, "POST", roles, `{"metadata":{"name":"wims"},`+rules+`}`)
	change := `{"rules":[{"verbs":["delete"],"apiGroups":[""],"resources":["secrets"]}]}`
	ona.must(t, 200, "PATCH", roles+"/more", change, "Content-Type", "application/merge-patch+json")
	if r := ona.do(t, "PATCH", roles+"/wims", change, "Content-Type", "application/merge-patch+json"); r.code != 403 {
		t.Errorf("ona escalates another role: %d", r.code)
	}
	if r := ona.do(t, "POST", roles, `{"metadata":{"name":"onas"},`+rules+`}`); r.code != 403 {
		t.Errorf("ona makes a role: %d", r.code)
	}
}

func testAggregation(t *testing.T, a *api) {
	ns := a.namespace(t)
	a.grant(t, "", "agg-"+ns, "agnes", `{"verbs":["create","patch"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"]}`)
	a.grant(t, "", "all-"+ns, "alan", `{"verbs":["*"],"apiGroups":["*"],"resources":["*"]},{"verbs":["*"],"nonResourceURLs":["*"]}`)
	body := `{"metadata":{"name":"sum-` + ns + `"},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]},"rules":[]}`
	agnes := a.as(t, "agnes")
	if r := agnes.do(t, "POST", rbacPath+"clusterroles", body); r.code != 403 || !strings.HasSuffix(r.status.Message, "must have cluster-admin privileges to use the aggregationRule") {
		t.Errorf("agnes aggregates: %d %s", r.code, r.status.Message)
	}
	a.as(t, "alan").must(t, 201, "POST", rbacPath+"clusterroles", body)
	for _, change := range []string{`{"metadata":{"labels":{"x":"y"}}}`, `{"aggregationRule":null}`} {
		if r := agnes.do(t, "PATCH", rbacPath+"clusterroles/sum-"+ns, change, "Content-Type", "application/merge-patch+json"); r.code != 403 {
			t.Errorf("agnes changes it by %s: %d", change, r.code)
		}
	}
}

func testSelectorReviews(t *testing.T, a *api) {
	ask := func(user, attributes string) map[string]any {
		t.Helper()
		m := a.must(t, 201, "POST", accessReviews+"subjectaccessreviews", fmt.Sprintf(
			`{"spec":{"user":%q,"groups":["system:nodes"],"resourceAttributes":{"verb":"list","resource":"pods",%s}}}`, user, attributes))
		return m["status"].(map[string]any)
	}
	for _, c := range []struct {
		attributes string
		allowed    bool
		failed     string
	}{
		{`"fieldSelector":{"rawSelector":"spec.nodeName=n1"}`, true, ""},
		{`"fieldSelector":{"requirements":[{"key":"spec.nodeName","operator":"In","values":["n1"]}]}`, true, ""},
		{`"fieldSelector":{"rawSelector":"spec.nodeName=n2"}`, false, ""},
		{`"fieldSelector":{"requirements":[{"key":"spec.nodeName","operator":"NotIn","values":["n1"]}]}`, false, ""},
		{`"fieldSelector":{"requirements":[{"key":"spec.nodeName","operator":"In","values":["n1","n2"]}]}`, false, "fieldSelector partially ignored due to parse error"},
		{`"fieldSelector":{"rawSelector":"spec.nodeName"}`, false, "fieldSelector ignored due to parse error"},
		{`"fieldSelector":{"rawSelector":"spec.nodeName=n1"},"labelSelector":{"rawSelector":"="}`, true, "labelSelector ignored due to parse error"},
		{`"labelSelector":{"requirements":[{"key":"a","operator":"Exists"}]}`, false, ""},
	} {
		s := ask("system:node:n1", c.attributes)
		failed, _ := s["evaluationError"].(string)
		if s["allowed"] != c.allowed || !strings.Contains(failed, c.failed) || c.failed == "" && failed != "" {
			t.Errorf("%s: %v", c.attributes, s)
		}
	}
}

// TestAuthorizationModes asks a service beside roles, and refuses to start with what is wrong.
func TestAuthorizationModes(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Spec struct {
				User               string
				ResourceAttributes struct{ Verb string }
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer := `"allowed":false,"reason":"the service does not know ` + asked.Spec.User + `"`
		switch {
		case asked.Spec.User != "jane":
		case asked.Spec.ResourceAttributes.Verb == "delete":
			answer = `"allowed":false,"denied":true,"reason":"the service says never"`
		default:
			answer = `"allowed":true,"reason":"the service says so"`
		}
		_, _ = io.WriteString(w, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","status":{`+answer+`}}`)
	}))
	t.Cleanup(service.Close)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hook := file("hook.kubeconfig", "{apiVersion: v1, kind: Config, clusters: [{name: h, cluster: {server: '"+service.URL+"'}}], contexts: [{name: h, context: {cluster: h, user: ''}}], current-context: h}")
	c := testcluster.Start(t, "--authorization-mode=Webhook,Node,RBAC", "--authorization-webhook-config-file="+hook, "--authorization-webhook-version=v1")
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	a.grant(t, "default", "deleter", "jane", `{"verbs":["delete"],"apiGroups":[""],"resources":["configmaps"]}`)
	maps := fmt.Sprintf(cmPath, "default")
	jane := a.as(t, "jane")
	jane.must(t, 200, "GET", maps, "")
	if r := jane.do(t, "DELETE", maps+"/x", ""); r.code != 403 || !strings.HasSuffix(r.status.Message, ": the service says never") {
		t.Errorf("what the service denies, a role allows: %d %s", r.code, r.status.Message)
	}
	if r := a.as(t, "joe").do(t, "GET", maps, ""); r.code != 403 || !strings.HasSuffix(r.status.Message, ": the service does not know joe") {
		t.Errorf("whom nobody knows: %d %s", r.code, r.status.Message)
	}
	m := jane.must(t, 201, "POST", accessReviews+"selfsubjectrulesreviews", `{"spec":{"namespace":"default"}}`)
	if at(m, "status.incomplete") != true || at(m, "status.evaluationError") != "webhook authorizer does not support user rule resolution" {
		t.Errorf("rules beside a service: %v", m["status"])
	}
	for flags, want := range map[string]string{
		"--authorization-mode=ABAC":    `"ABAC" is not a valid mode`,
		"--authorization-mode=Webhook": "Webhook needs --authorization-webhook-config-file",
	} {
		if said := c.Refused(flags); !strings.Contains(said, strings.ReplaceAll(want, `"`, `\"`)) {
			t.Errorf("%s: no %q in %s", flags, want, said)
		}
	}
	bad := file("bad.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: [{type: Webhook, name: x}]\n")
	if said := c.Refused("--authorization-config=" + bad); !strings.Contains(said, bad) || !strings.Contains(said, "authorizers[0].webhook: Required value") {
		t.Errorf("a bad configuration: %s", said)
	}
}
