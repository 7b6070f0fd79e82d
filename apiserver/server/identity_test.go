package server_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"pilothouse.dev/pkg/pki"
	"pilothouse.dev/pkg/testcluster"
)

const selfReviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

// TestIdentity: each way to say who one is, against a server that knows them all.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	front, err := pki.NewAuthority("front")
	if err != nil {
		t.Fatal(err)
	}
	frontCA := file("front.crt", string(front.PEM().Cert))
	config := file("authentication.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"+
		"anonymous: {enabled: true, conditions: [{path: /livez}]}\n")
	c := testcluster.Start(t, "--token-auth-file="+file("tokens.csv", "from-a-file,jane,7,\"dev,ops\"\n"), "--enable-bootstrap-token-auth",
		"--requestheader-client-ca-file="+frontCA, "--requestheader-allowed-names=front-proxy", "--requestheader-username-headers=X-Remote-User",
		"--requestheader-uid-headers=X-Remote-Uid", "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--authentication-config="+config, "--service-account-max-token-expiration=2h")
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"certificates", identityByCertificate}, {"a file of tokens", identityByFile}, {"joining machines", identityToJoin},
		{"tokens kept in secrets", identityBySecret}, {"anonymous", identityOfNobody}, {"the longest life", identityLongestLife},
		{"impersonation", identityOfOthers},
		{"front proxies", func(t *testing.T, a *api) { identityByProxy(t, a, front) }},
		{"what is published", func(t *testing.T, a *api) { identityPublished(t, a, front) }},
		{"WebSockets", identityByProtocol}, {"kubectl auth whoami", identityByKubectl},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
}

// me is who the server says that one is: name, UID and groups.
func (a *api) me(t *testing.T, header ...string) string {
	t.Helper()
	m := a.must(t, 201, "POST", selfReviews, `{}`, header...)
	return fmt.Sprint(at(m, "status.userInfo.username"), " ", at(m, "status.userInfo.uid"), " ", at(m, "status.userInfo.groups"))
}

func (a *api) is(t *testing.T, want string, header ...string) {
	t.Helper()
	if got := a.me(t, header...); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// refused wants a 401.
func (a *api) refused(t *testing.T, path string, header ...string) {
	t.Helper()
	if r := a.do(t, "GET", path, "", header...); r.code != 401 || r.status.Message != "Unauthorized" || r.status.Reason != "Unauthorized" {
		t.Errorf("%s: got %d %s", path, r.code, r.body)
	}
}

// with is a client that shows a certificate, whoever signed it.
func (a *api) with(t *testing.T, pair pki.Pair) *api {
	t.Helper()
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := a.TLS()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}}
	t.Cleanup(client.CloseIdleConnections)
	return &api{a.Cluster, client}
}

func (a *api) nobody(t *testing.T) *api {
	t.Helper()
	cfg := a.TLS()
	cfg.GetClientCertificate, cfg.Certificates = nil, nil
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}}
	t.Cleanup(client.CloseIdleConnections)
	return &api{a.Cluster, client}
}

func identityByCertificate(t *testing.T, a *api) {
	authority, err := pki.EnsureAuthority(a.Dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	issue := func(by *pki.Authority, id pki.Identity, life time.Duration) *api {
		t.Helper()
		pair, err := by.Issue(id, life)
		if err != nil {
			t.Fatal(err)
		}
		return a.with(t, pair)
	}
	jane := pki.Identity{Name: "jane", Groups: []string{"dev"}, Client: true}
	issue(authority, jane, 0).is(t, "jane <nil> [dev system:authenticated]")
	// The handshake succeeds, and the answer says no; not even what anybody may ask for is answered.
	for _, bad := range []*api{issue(stranger, jane, 0), issue(authority, jane, -time.Minute), issue(authority, pki.Identity{Name: "jane", Server: true}, 0)} {
		bad.refused(t, "/api/v1/pods")
		bad.refused(t, "/livez")
		// A token that is good counts all the same, as a certificate does beside a bad token.
		bad.is(t, "jane 7 [dev ops system:authenticated]", "Authorization", "Bearer from-a-file")
	}
	issue(authority, jane, 0).is(t, "jane <nil> [dev system:authenticated]", "Authorization", "Bearer nonsense")
}

func identityByFile(t *testing.T, a *api) {
	n := a.nobody(t)
	n.is(t, "jane 7 [dev ops system:authenticated]", "Authorization", "Bearer from-a-file")
	n.refused(t, "/livez", "Authorization", "Bearer from-another")
	if strings.Contains(a.Said(), "from-a") {
		t.Error("a token is in the log")
	}
}

func identityToJoin(t *testing.T, a *api) {
	const secrets = "/api/v1/namespaces/kube-system/secrets"
	a.must(t, 201, "POST", secrets, `{"metadata":{"name":"bootstrap-token-abcdef"},"type":"bootstrap.kubernetes.io/token","stringData":{
		"token-id":"abcdef","token-secret":"0123456789abcdef","usage-bootstrap-authentication":"true","auth-extra-groups":"system:bootstrappers:worker"}}`)
	n := a.nobody(t)
	token := []string{"Authorization", "Bearer abcdef.0123456789abcdef"}
	within(t, "the token is known", func() bool { return n.do(t, "GET", "/api", "", token...).code == 200 })
	n.is(t, "system:bootstrap:abcdef <nil> [system:bootstrappers system:bootstrappers:worker system:authenticated]", token...)
	a.must(t, 200, "DELETE", secrets+"/bootstrap-token-abcdef", "")
	within(t, "the token ends with its secret", func() bool { return n.do(t, "GET", "/livez", "", token...).code == 401 })
}

// within waits for what follows from a write, which reaches the caches a moment later.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to pass that " + what)
		}
	}
}

func identityBySecret(t *testing.T, a *api) {
	const space = "/api/v1/namespaces/default/"
	account := a.must(t, 201, "POST", space+"serviceaccounts", `{"metadata":{"name":"old"}}`)
	uid := at(account, "metadata.uid").(string)
	b, err := os.ReadFile(filepath.Join(a.Dir, "service-account.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.ParseKey(b)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const in = "kubernetes.io/serviceaccount/"
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:old", in + "namespace": "default",
		in + "secret.name": "old-token", in + "service-account.name": "old", in + "service-account.uid": uid,
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	n := a.nobody(t)
	header := []string{"Authorization", "Bearer " + token}
	n.refused(t, "/api", header...) // its secret is not there
	a.must(t, 201, "POST", space+"secrets", fmt.Sprintf(`{"metadata":{"name":"old-token","annotations":{"kubernetes.io/service-account.name":"old",
		"kubernetes.io/service-account.uid":%q}},"type":"kubernetes.io/service-account-token","data":{"token":%q}}`,
		uid, base64.StdEncoding.EncodeToString([]byte(token))))
	n.is(t, "system:serviceaccount:default:old "+uid+" [system:serviceaccounts system:serviceaccounts:default system:authenticated]", header...)
	secret := a.must(t, 200, "GET", space+"secrets/old-token", "")
	if day := fmt.Sprint(at(secret, "metadata.labels.kubernetes.io/legacy-token-last-used")); !strings.Contains(fmt.Sprint(secret["metadata"]), "legacy-token-last-used:"+time.Now().UTC().Format("2006-01")) {
		t.Errorf("its use is not noted: %s, %v", day, secret["metadata"])
	}
	a.must(t, 200, "DELETE", space+"serviceaccounts/old", "")
	within(t, "the token ends with its account", func() bool { return n.do(t, "GET", "/api", "", header...).code == 401 })
}

// The file says that only /livez is anonymous.
func identityOfNobody(t *testing.T, a *api) {
	n := a.nobody(t)
	if r := n.do(t, "GET", "/livez", ""); r.code != 200 || r.body != "ok" {
		t.Errorf("%d %s", r.code, r.body)
	}
	for _, path := range []string{"/version", "/api", "/api/v1/pods", "/", "/nothing", "//livez", "/livez/", "/livez/../api", "/%6civez/../api/v1/pods"} {
		n.refused(t, path)
	}
	n.refused(t, "/livez", "Authorization", "Basic YTpi")
	n.refused(t, "/livez", "Authorization", "Bearer x")
}

func identityLongestLife(t *testing.T, a *api) {
	r := a.do(t, "POST", "/api/v1/namespaces/default/serviceaccounts/default/token", `{"spec":{"expirationSeconds":86400}}`)
	if r.code != 201 || !strings.Contains(r.body, `"expirationSeconds":7200`) || !strings.Contains(r.header.Get("Warning"), "requested expiration of 86400 seconds shortened to 7200 seconds") {
		t.Errorf("%d %s %v", r.code, r.body, r.header)
	}
}

func identityByProxy(t *testing.T, a *api, front *pki.Authority) {
	for _, c := range []struct{ name, want string }{{"front-proxy", "jane 7 [dev ops system:authenticated]"}, {"somebody", ""}} {
		pair, err := front.Issue(pki.Identity{Name: c.name, Client: true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		p := a.with(t, pair)
		says := []string{"X-Remote-User", "jane", "X-Remote-Uid", "7", "X-Remote-Extra-Scopes", "all"}
		if c.want == "" {
			p.refused(t, "/livez", says...)
			continue
		}
		r, err := http.NewRequestWithContext(t.Context(), "POST", a.URL()+selfReviews, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/json"}, "X-Remote-User": {"jane"}, "X-Remote-Uid": {"7"}, "X-Remote-Group": {"dev", "ops"}, "X-Remote-Extra-Scopes": {"all"}}
		answer, err := p.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != 201 {
			t.Errorf("%d, %v", answer.StatusCode, err)
		}
		m := p.must(t, 201, "POST", selfReviews, `{}`, append(says, "X-Remote-Group", "dev")...)
		if fmt.Sprint(at(m, "status.userInfo.extra.scopes")) != "[all]" || at(m, "status.userInfo.uid") != "7" {
			t.Errorf("got %v", m)
		}
		p.refused(t, "/livez") // of nobody: the proxy itself is nobody
	}
}

func identityPublished(t *testing.T, a *api, front *pki.Authority) {
	m := a.must(t, 200, "GET", "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication", "")
	ca, err := os.ReadFile(filepath.Join(a.Dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"client-ca-file": string(ca), "requestheader-client-ca-file": string(front.PEM().Cert), "requestheader-allowed-names": `["front-proxy"]`,
		"requestheader-username-headers": `["X-Remote-User"]`, "requestheader-uid-headers": `["X-Remote-Uid"]`,
		"requestheader-group-headers": `["X-Remote-Group"]`, "requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
	} {
		if got := m["data"].(map[string]any)[key]; got != want {
			t.Errorf("%s: %v", key, got)
		}
	}
}

func identityOfOthers(t *testing.T, a *api) {
	a.is(t, "joe <nil> [system:authenticated]", "Impersonate-User", "joe")
	a.is(t, "joe 8 [dev system:authenticated]", "Impersonate-User", "joe", "Impersonate-Group", "dev", "Impersonate-Uid", "8")
	m := a.must(t, 201, "POST", selfReviews, `{}`, "Impersonate-User", "joe", "Impersonate-Extra-Example.com%2fscope", "x")
	if got := at(m, "status.userInfo.extra").(map[string]any)["example.com/scope"]; fmt.Sprint(got) != "[x]" {
		t.Errorf("extra: %v", m)
	}
	jane := a.nobody(t)
	for _, h := range [][]string{{"Impersonate-User", "admin"}, {"Impersonate-User", "jane", "Impersonate-Group", "system:masters"}} {
		r := jane.do(t, "GET", "/api", "", append(h, "Authorization", "Bearer from-a-file")...)
		if r.code != 403 || !strings.Contains(r.status.Message, `User "jane" cannot impersonate resource "users" in API group "" at the cluster scope`) {
			t.Errorf("%v: %d %s", h, r.code, r.body)
		}
	}
}

// A browser's token is among the protocols of its WebSocket.
func identityByProtocol(t *testing.T, a *api) {
	n := a.nobody(t)
	n.http.Transport = &http.Transport{TLSClientConfig: n.http.Transport.(*http.Transport).TLSClientConfig} // an upgrade is of HTTP/1.1
	ask := func(token string) int {
		return n.do(t, "GET", "/api/v1/namespaces/default/pods/none/exec?command=x", "", "Connection", "Upgrade", "Upgrade", "websocket",
			"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
			"Sec-WebSocket-Protocol", "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io."+base64.RawURLEncoding.EncodeToString([]byte(token))).code
	}
	if code := ask("from-a-file"); code != 403 {
		t.Errorf("known, and may not: %d", code)
	}
	if code := ask("from-nowhere"); code != 401 {
		t.Errorf("not known: %d", code)
	}
}

// kubectl auth whoami shows all that is known of one.
func identityByKubectl(t *testing.T, a *api) {
	kubectl := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", "bin", "kubectl"), append(args, "auth", "whoami")...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	admin := "--kubeconfig=" + a.Kubeconfig("kim", "system:masters")
	for _, c := range []struct{ got, want string }{
		{kubectl(admin), "authentication.kubernetes.io/credential-id"},
		{kubectl(admin, "--as=joe", "--as-uid=8", "--as-group=dev", "--as-user-extra=scopes=all"), "Extra: scopes"},
		{kubectl("--kubeconfig="+bare(t, a), "--token=from-a-file"), "dev ops system:authenticated"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("no %s in\n%s", c.want, c.got)
		}
	}
}

// bare is a kubeconfig of nobody.
func bare(t *testing.T, a *api) string {
	t.Helper()
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]\n"+
		"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", a.URL(), filepath.Join(a.Dir, "ca.crt"))
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
