package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"pilothouse.dev/pkg/pki"
	"pilothouse.dev/pkg/testcluster"
)

// TestAttacks: what strangers, users, pods and kubelets try, and what they are told. Each has its like that is allowed, so that a
// refusal is not one of everything.
func TestAttacks(t *testing.T) {
	front, err := pki.NewAuthority("front")
	if err != nil {
		t.Fatal(err)
	}
	frontCA := filepath.Join(t.TempDir(), "front.crt")
	if err := os.WriteFile(frontCA, front.PEM().Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	c := testcluster.Start(t, "--requestheader-client-ca-file="+frontCA, "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group")
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"by a kubelet", attackAsKubelet}, {"with tokens", attackWithTokens}, {"for more rights", attackForRights}, {"on pods", attackOnPods},
		{"through proxies", attackThroughProxies}, {"by paths", attackByPaths}, {"by messages", attackByMessages}, {"by bodies", attackByBodies},
		{"by headers", func(t *testing.T, a *api) { attackByHeaders(t, a, front) }},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
}

// no wants a refusal with a code and words.
func (a *api) no(t *testing.T, code int, words, method, path, body string, header ...string) {
	t.Helper()
	r := a.do(t, method, path, body, header...)
	if r.code != code || !strings.Contains(r.status.Message, words) {
		t.Errorf("%s %s: got %d %q, want %d %q", method, path, r.code, r.status.Message, code, words)
	}
}

const patchType, applyType = "application/merge-patch+json", "application/apply-patch+yaml"

// eventually asks until the answer has a code: for what is right only once the server has seen it.
func (a *api) eventually(t *testing.T, code int, method, path string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		r := a.do(t, method, path, "")
		if r.code == code {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s %s: still %d %q", method, path, r.code, r.status.Message)
		}
	}
}

func attackAsKubelet(t *testing.T, a *api) {
	base := "/api/v1/namespaces/" + a.namespace(t)
	uids := map[string]any{}
	for _, n := range []string{"1", "2"} {
		a.must(t, 201, "POST", "/api/v1/nodes", `{"metadata":{"name":"n`+n+`"},"spec":{"taints":[{"key":"kept","effect":"NoSchedule"}]}}`)
		for _, kind := range []string{"secrets", "configmaps", "serviceaccounts"} {
			a.must(t, 201, "POST", base+"/"+kind, `{"metadata":{"name":"s`+n+`"}}`)
		}
		p := a.must(t, 201, "POST", base+"/pods", `{"metadata":{"name":"p`+n+`"},"spec":{"nodeName":"n`+n+`","serviceAccountName":"s`+n+`","containers":[{"name":"c","image":"i",
			"envFrom":[{"secretRef":{"name":"s`+n+`"}},{"configMapRef":{"name":"s`+n+`"}}]}]}}`)
		uids[n] = at(p, "metadata.uid")
	}
	k := a.as(t, "system:node:n1", "system:nodes")
	request := func(pod, uid any) string {
		return fmt.Sprintf(`{"spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"%v","uid":"%v"}}}`, pod, uid)
	}
	k.eventually(t, 200, "GET", base+"/secrets/s1")
	k.eventually(t, 200, "GET", base+"/configmaps/s1")
	k.must(t, 200, "GET", base+"/secrets?fieldSelector=metadata.name%3Ds1", "")
	k.must(t, 200, "GET", "/api/v1/nodes/n1", "")
	k.must(t, 200, "PATCH", "/api/v1/nodes/n1/status", `{"status":{"phase":"Running"}}`, "Content-Type", patchType)
	k.must(t, 200, "PATCH", base+"/pods/p1/status", `{"status":{"phase":"Running"}}`, "Content-Type", patchType)
	k.must(t, 201, "POST", base+"/serviceaccounts/s1/token", request("p1", uids["1"]))

	const stranger = "no relationship found between node 'n1' and this object"
	for _, path := range []string{"/secrets/s2", "/configmaps/s2", "/secrets?fieldSelector=metadata.name%3Ds2"} {
		k.no(t, 403, stranger, "GET", base+path, "")
	}
	k.no(t, 403, "", "GET", base+"/secrets", "")
	k.no(t, 403, "", "GET", "/api/v1/secrets", "")
	k.no(t, 403, "", "GET", "/api/v1/secrets?watch=1", "")
	k.no(t, 403, "", "GET", "/api/v1/pods", "")
	k.no(t, 403, "", "PUT", base+"/secrets/s1", `{"metadata":{"name":"s1"}}`)
	k.no(t, 403, "", "POST", base+"/serviceaccounts/s2/token", request("p2", uids["2"]))
	k.no(t, 403, "not bound to a pod", "POST", base+"/serviceaccounts/s1/token", `{"spec":{}}`)
	k.no(t, 403, "", "POST", base+"/serviceaccounts/s1/token", request("p1", "another"))
	k.no(t, 403, "", "PATCH", "/api/v1/nodes/n2/status", `{"status":{"phase":"Running"}}`, "Content-Type", patchType)
	k.no(t, 403, "", "PATCH", "/api/v1/nodes/n2", `{"metadata":{"labels":{"a":"b"}}}`, "Content-Type", patchType)
	k.no(t, 403, "not allowed to modify taints", "PATCH", "/api/v1/nodes/n1", `{"spec":{"taints":[]}}`, "Content-Type", patchType)
	k.no(t, 403, "", "PATCH", "/api/v1/nodes/n1", `{"metadata":{"labels":{"node-restriction.kubernetes.io/trusted":"yes"}}}`, "Content-Type", patchType)
	k.no(t, 403, "", "DELETE", "/api/v1/nodes/n1", "")
	k.no(t, 403, "", "PATCH", base+"/pods/p2/status", `{"status":{"phase":"Failed"}}`, "Content-Type", patchType)
	k.no(t, 403, "", "DELETE", base+"/pods/p2", "")
	k.no(t, 403, "", "POST", base+"/pods/p2/eviction", `{"metadata":{"name":"p2"}}`)
	k.no(t, 403, "can only create mirror pods", "POST", base+"/pods", `{"metadata":{"name":"own"},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}}`)
	k.no(t, 403, "", "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2", `{"metadata":{"name":"n2"}}`)
	k.no(t, 403, "", "POST", base+"/pods/p1/exec?command=sh", "")
	// A certificate that says nodes, and names none.
	a.as(t, "somebody", "system:nodes").no(t, 403, "", "GET", base+"/secrets/s1", "")
}

func attackWithTokens(t *testing.T, a *api) {
	base := "/api/v1/namespaces/" + a.namespace(t)
	a.must(t, 201, "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", `{"metadata":{"generateName":"robot-"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},
		"subjects":[{"kind":"ServiceAccount","name":"default","namespace":"`+strings.TrimPrefix(base, "/api/v1/namespaces/")+`"}]}`)
	pod := a.must(t, 201, "POST", base+"/pods", `{"metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}`)
	issue := func(spec string) string {
		t.Helper()
		return at(a.must(t, 201, "POST", base+"/serviceaccounts/default/token", `{"spec":{`+spec+`}}`), "status.token").(string)
	}
	try := func(name, token string, want int) {
		t.Helper()
		robot := &api{a.Cluster, a.bearer(token)}
		if r := robot.do(t, "GET", base+"/pods", ""); r.code != want {
			t.Errorf("%s: got %d %s, want %d", name, r.code, r.status.Message, want)
		}
	}
	good := issue(`"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"p","uid":"` + at(pod, "metadata.uid").(string) + `"}`)
	(&api{a.Cluster, a.bearer(good)}).eventually(t, 200, "GET", base+"/pods")
	try("for another audience", issue(`"audiences":["vault"]`), 401)

	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	plain := func(part string) map[string]any {
		t.Helper()
		b, err := base64.RawURLEncoding.DecodeString(part)
		m := map[string]any{}
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	packed := func(m map[string]any) string {
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	header := func(alg string) string { h := plain(head); h["alg"] = alg; return packed(h) }
	for _, none := range []string{"none", "None", "NONE"} {
		try("signed with "+none, header(none)+"."+body+".", 401)
		try("said to be signed with "+none, header(none)+"."+body+"."+signature, 401)
	}
	public, err := os.ReadFile(filepath.Join(a.Dir, "service-account.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(public)
	for name, secret := range map[string][]byte{"PEM": public, "DER": block.Bytes} {
		signed := header("HS256") + "." + body
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		try("signed with the public key as a secret, "+name, signed+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), 401)
	}
	claims, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	resign := func(alg jose.SignatureAlgorithm, key any, extra string) string {
		t.Helper()
		o := (&jose.SignerOptions{}).WithHeader("kid", plain(head)["kid"])
		if extra != "" {
			o = o.WithHeader(jose.HeaderKey(extra), "https://127.0.0.1/keys")
		}
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := s.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	try("of another key that says it is ours", resign(jose.ES256, curve, ""), 401)
	try("of another type of key", resign(jose.RS256, big, ""), 401)
	try("of a key to be fetched", resign(jose.ES256, curve, "jku"), 401)
	m := plain(body)
	m["sub"] = "system:serviceaccount:kube-system:default"
	try("with another subject", head+"."+packed(m)+"."+signature, 401)
	try("cut", head+"."+body+"."+signature[:len(signature)-4], 401)

	old := at(a.must(t, 201, "POST", base+"/serviceaccounts", `{"metadata":{"name":"brief"}}`), "metadata.uid")
	brief := at(a.must(t, 201, "POST", base+"/serviceaccounts/brief/token", `{}`), "status.token").(string)
	try("of an account without rights", brief, 403)
	a.must(t, 200, "DELETE", base+"/serviceaccounts/brief", "")
	(&api{a.Cluster, a.bearer(brief)}).eventually(t, 401, "GET", base+"/pods")
	if next := at(a.must(t, 201, "POST", base+"/serviceaccounts", `{"metadata":{"name":"brief"}}`), "metadata.uid"); next == old {
		t.Fatal("the same UID again")
	}
	try("of the account's namesake", brief, 401)
	a.must(t, 200, "DELETE", base+"/pods/p?gracePeriodSeconds=0", "")
	(&api{a.Cluster, a.bearer(good)}).eventually(t, 401, "GET", base+"/pods")
	a.must(t, 201, "POST", base+"/pods", `{"metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}`)
	try("of the pod's namesake", good, 401)
	if strings.Contains(a.Said(), signature) {
		t.Error("the log shows a token")
	}
}

const roles = "/apis/rbac.authorization.k8s.io/v1"

// mallory makes a user who may do what rules say in a namespace.
func (a *api) mallory(t *testing.T, namespace, user, rules string) *api {
	t.Helper()
	in := roles + "/namespaces/" + namespace
	a.must(t, 201, "POST", in+"/roles", `{"metadata":{"name":"of-`+user+`"},"rules":[`+rules+`]}`)
	a.must(t, 201, "POST", in+"/rolebindings", `{"metadata":{"name":"of-`+user+`"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"of-`+user+`"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"`+user+`"}]}`)
	m := a.as(t, user)
	m.eventually(t, 200, "GET", "/api/v1/namespaces/"+namespace+"/pods")
	return m
}

func attackForRights(t *testing.T, a *api) {
	ns := a.namespace(t)
	in, base := roles+"/namespaces/"+ns, "/api/v1/namespaces/"+ns
	m := a.mallory(t, ns, "mallory", `{"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles","rolebindings"],"verbs":["get","list","create","update","patch","delete"]},
		{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]},{"apiGroups":[""],"resources":["serviceaccounts","serviceaccounts/token"],"verbs":["create","get"]}`)
	role := func(name, resource string) string {
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"` + name + `"},"rules":[{"apiGroups":[""],"resources":["` + resource + `"],"verbs":["get"]}]}`
	}
	binding := func(name, kind, ref string) string {
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"` + name + `"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"` + kind + `","name":"` + ref + `"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mallory"}]}`
	}
	const more = "is attempting to grant RBAC permissions not currently held"
	m.must(t, 201, "POST", in+"/roles", role("ok", "pods"))
	m.no(t, 403, more, "POST", in+"/roles", role("bad", "secrets"))
	m.no(t, 403, more, "PUT", in+"/roles/ok", role("ok", "secrets"))
	m.no(t, 403, more, "PATCH", in+"/roles/ok", `{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`, "Content-Type", patchType)
	m.no(t, 403, more, "PATCH", in+"/roles/ok?fieldManager=m&force=true", role("ok", "secrets"), "Content-Type", applyType)
	m.no(t, 403, more, "PATCH", in+"/roles/new?fieldManager=m", role("new", "secrets"), "Content-Type", applyType)
	m.must(t, 201, "POST", in+"/rolebindings", binding("ok", "Role", "ok"))
	m.no(t, 403, more, "POST", in+"/rolebindings", binding("bad", "ClusterRole", "cluster-admin"))
	m.no(t, 403, more, "PATCH", in+"/rolebindings/new?fieldManager=m", binding("new", "ClusterRole", "admin"), "Content-Type", applyType)
	a.must(t, 201, "POST", in+"/rolebindings", strings.Replace(binding("theirs", "ClusterRole", "cluster-admin"), "mallory", "root", 1))
	m.no(t, 403, more, "PATCH", in+"/rolebindings/theirs", `{"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mallory"}]}`, "Content-Type", patchType)
	m.no(t, 403, "", "POST", roles+"/clusterroles", role("bad", "pods"))
	m.no(t, 403, "", "POST", roles+"/clusterrolebindings", binding("bad", "ClusterRole", "view"))

	const own = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
	m.must(t, 201, "POST", own, `{}`)
	for _, as := range [][]string{
		{"Impersonate-User", "admin"}, {"Impersonate-User", "mallory", "Impersonate-Group", "system:masters"},
		{"Impersonate-User", "system:serviceaccount:kube-system:default"}, {"Impersonate-User", "mallory", "Impersonate-Uid", "0"},
		{"Impersonate-User", "mallory", "Impersonate-Extra-Scopes", "all"},
	} {
		m.no(t, 403, "cannot impersonate resource", "POST", own, `{}`, as...)
	}
	m.no(t, 400, "", "POST", own, `{}`, "Impersonate-Group", "system:masters")
	m.must(t, 201, "POST", base+"/serviceaccounts/default/token", `{}`)
	m.no(t, 403, "", "POST", "/api/v1/namespaces/kube-system/serviceaccounts/default/token", `{}`)

	requests := "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	a.must(t, 201, "POST", roles+"/clusterroles", `{"metadata":{"name":"asks"},"rules":[{"apiGroups":["certificates.k8s.io"],"resources":["certificatesigningrequests","certificatesigningrequests/approval","certificatesigningrequests/status"],"verbs":["*"]}]}`)
	a.must(t, 201, "POST", roles+"/clusterrolebindings", strings.ReplaceAll(binding("asks", "ClusterRole", "asks"), `"RoleBinding"`, `"ClusterRoleBinding"`))
	m.eventually(t, 200, "GET", requests)
	request := func(name string, groups ...string) string {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: groups}}, key)
		if err != nil {
			t.Fatal(err)
		}
		b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		return `{"metadata":{"name":"` + name + `"},"spec":{"signerName":"kubernetes.io/kube-apiserver-client","usages":["client auth"],"request":"` + base64.StdEncoding.EncodeToString(b) + `","username":"admin","groups":["system:masters"]}}`
	}
	m.no(t, 403, "system:masters", "POST", requests, request("bad", "system:masters"))
	made := m.must(t, 201, "POST", requests, request("mine"))
	if at(made, "spec.username") != "mallory" || strings.Contains(fmt.Sprint(at(made, "spec.groups")), "masters") {
		t.Errorf("who asks for a certificate says who he is: %v", at(made, "spec"))
	}
	at(made, "status").(map[string]any)["conditions"] = []any{map[string]any{"type": "Approved", "status": "True", "reason": "me"}}
	approved, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	m.no(t, 403, `user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client"`, "PUT", requests+"/mine/approval", string(approved))
	ca, err := os.ReadFile(filepath.Join(a.Dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	m.no(t, 403, `user not permitted to sign requests with signerName "kubernetes.io/kube-apiserver-client"`, "PATCH", requests+"/mine/status",
		`{"status":{"certificate":"`+base64.StdEncoding.EncodeToString(ca)+`"}}`, "Content-Type", patchType)
}

func attackOnPods(t *testing.T, a *api) {
	ns := a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	a.must(t, 200, "PATCH", "/api/v1/namespaces/"+ns, `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`, "Content-Type", patchType)
	good := `"securityContext":{"runAsNonRoot":true,"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"seccompProfile":{"type":"RuntimeDefault"}}`
	pod := func(name, more, container string) string {
		return `{"metadata":{"name":"` + name + `"},"spec":{"nodeName":"n",` + more + `"containers":[{"name":"c","image":"i",` + container + `}]}}`
	}
	m := a.mallory(t, ns, "peter", `{"apiGroups":[""],"resources":["pods"],"verbs":["get","list","create","update","patch"]},{"apiGroups":[""],"resources":["pods/ephemeralcontainers"],"verbs":["patch","update"]}`)
	for _, who := range []*api{m, a} { // the strongest are held to it too
		for name, bad := range map[string]string{
			"privileged":     pod("x", "", `"securityContext":{"privileged":true}`),
			"hostNetwork":    pod("x", `"hostNetwork":true,`, good),
			"hostPath":       pod("x", `"volumes":[{"name":"v","hostPath":{"path":"/"}}],`, good),
			"hostPID":        pod("x", `"hostPID":true,`, good),
			"capabilities":   pod("x", "", strings.Replace(good, `"drop":["ALL"]`, `"drop":["ALL"],"add":["SYS_ADMIN"]`, 1)),
			"root":           pod("x", "", strings.Replace(good, "true", "false", 1)),
			"init container": pod("x", `"initContainers":[{"name":"i","image":"i","securityContext":{"privileged":true}}],`, good),
		} {
			t.Run(name, func(t *testing.T) {
				who.no(t, 403, `violates PodSecurity "restricted:latest"`, "POST", base+"/pods", bad)
			})
		}
	}
	m.must(t, 201, "POST", base+"/pods", pod("p", "", good))
	m.no(t, 403, "violates PodSecurity", "PATCH", base+"/pods/p/ephemeralcontainers",
		`{"spec":{"ephemeralContainers":[{"name":"e","image":"i","securityContext":{"privileged":true}}]}}`, "Content-Type", "application/strategic-merge-patch+json")
	m.no(t, 403, "", "PATCH", "/api/v1/namespaces/"+ns, `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`, "Content-Type", patchType)

	m.must(t, 200, "GET", base+"/pods/p", "")
	for _, sub := range []string{"exec?command=sh", "attach", "portforward"} {
		for _, method := range []string{"POST", "GET"} {
			m.no(t, 403, "cannot", method, base+"/pods/p/"+sub, "", "Connection", "Upgrade", "Upgrade", "websocket")
		}
	}
	m.no(t, 403, "", "GET", base+"/pods/p/log", "")
	m.no(t, 403, "", "GET", base+"/pods/p/proxy/", "")
	m.no(t, 403, "", "POST", base+"/pods/p/binding", `{"target":{"name":"n"}}`)
	m.no(t, 403, "", "POST", base+"/pods/p/eviction", `{}`)
	m.no(t, 403, "", "PUT", base+"/pods/p/status", `{"metadata":{"name":"p"}}`)
	m.no(t, 403, "", "DELETE", base+"/pods/p", "")
	if bytes.Contains([]byte(a.Said()), []byte("panicked")) {
		t.Error("a request panicked")
	}
}
