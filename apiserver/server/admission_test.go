package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

const (
	privilegedPod = `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","securityContext":{"privileged":true}}]}}`
	plainPodBody  = `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`
	restrictedPod = `{"metadata":{"name":"p"},"spec":{"securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}},
		"containers":[{"name":"c","image":"i","securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}}`
	violation = `PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), ` +
		`unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), ` +
		`runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), ` +
		`seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")`
)

// masterOf speaks to a cluster in plain HTTP.
func masterOf(t *testing.T, c *testcluster.Cluster) *api {
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	return a
}

// leveled is a new namespace with labels of PodSecurity.
func (a *api) leveled(t *testing.T, name, labels string) string {
	t.Helper()
	a.must(t, 201, "POST", "/api/v1/namespaces", `{"metadata":{"name":"`+name+`","labels":{`+labels+`}}}`)
	a.must(t, 201, "POST", "/api/v1/namespaces/"+name+"/serviceaccounts", `{"metadata":{"name":"default"}}`)
	return "/api/v1/namespaces/" + name
}

// warnings are the texts of the headers.
func (r reply) warnings() []string {
	var out []string
	for _, h := range r.header.Values("Warning") {
		text := strings.TrimSuffix(strings.TrimPrefix(h, `299 - "`), `"`)
		out = append(out, strings.ReplaceAll(text, `\"`, `"`))
	}
	return out
}

// TestAdmission drives admission plugins and what chooses them, over HTTP.
func TestAdmission(t *testing.T) {
	c := testcluster.Start(t)
	t.Run("pod security", func(t *testing.T) { testPodSecurity(t, masterOf(t, c)) })
	t.Run("a kubelet's bounds", func(t *testing.T) { testKubeletBounds(t, masterOf(t, c)) })
	t.Run("malformed", func(t *testing.T) { testMalformedAdmission(t, c) })
	t.Run("chosen", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "admission.yaml")
		putFile(t, file, "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  path: security.yaml\n"+
			"- name: EventRateLimit\n  configuration:\n    apiVersion: eventratelimit.admission.k8s.io/v1alpha1\n    kind: Configuration\n    limits:\n    - {type: Namespace, qps: 1, burst: 1}\n")
		putFile(t, filepath.Join(dir, "security.yaml"), "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n"+
			"defaults: {enforce: baseline}\nexemptions: {namespaces: [free]}\n")
		testChosen(t, masterOf(t, c.Another("--admission-control-config-file="+file, "--enable-admission-plugins=AlwaysPullImages,EventRateLimit",
			"--disable-admission-plugins=LimitRanger")))
		testDisabled(t, masterOf(t, c.Another("--disable-admission-plugins=PodSecurity,TaintNodesByCondition",
			"--enable-admission-plugins=NamespaceAutoProvision,OwnerReferencesPermissionEnforcement,DenyServiceExternalIPs", "--default-not-ready-toleration-seconds=7")))
	})
}

func testPodSecurity(t *testing.T, a *api) {
	ns := a.leveled(t, "restricted", `"pod-security.kubernetes.io/enforce":"restricted"`)
	for name, body := range map[string]string{"plain": plainPodBody, "dry": plainPodBody} {
		path := ns + "/pods"
		if name == "dry" {
			path += "?dryRun=All"
		}
		r := a.do(t, "POST", path, body)
		if want := `pods "p" is forbidden: violates ` + violation; r.code != 403 || r.status.Message != want || len(r.warnings()) != 0 {
			t.Errorf("%s: %d %q %q", name, r.code, r.status.Message, r.warnings())
		}
	}
	if r := a.do(t, "POST", ns+"/pods", privilegedPod); r.code != 403 || !strings.Contains(r.status.Message, `privileged (container "c" must not set securityContext.privileged=true)`) {
		t.Errorf("privileged: %d %q", r.code, r.status.Message)
	}
	deployment := `{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`
	r := a.do(t, "POST", "/apis/apps/v1/namespaces/restricted/deployments", deployment)
	if r.code != 201 || !slices.Equal(r.warnings(), []string{"would violate " + violation}) {
		t.Errorf("deployment: %d %q", r.code, r.warnings())
	}
	a.must(t, 201, "POST", ns+"/pods", restrictedPod)
	debug := `{"spec":{"ephemeralContainers":[{"name":"d","image":"i"}]}}`
	if r := a.do(t, "PATCH", ns+"/pods/p/ephemeralcontainers", debug, "Content-Type", "application/strategic-merge-patch+json"); r.code != 403 ||
		!strings.Contains(r.status.Message, `container "d" must set`) {
		t.Errorf("debugger: %d %q", r.code, r.body)
	}
	a.must(t, 200, "PATCH", ns+"/pods/p", `{"metadata":{"labels":{"a":"b"}}}`, "Content-Type", "application/merge-patch+json")

	watched := a.leveled(t, "watched", `"pod-security.kubernetes.io/warn":"restricted"`)
	r = a.do(t, "POST", watched+"/pods", plainPodBody)
	if r.code != 201 || !slices.Equal(r.warnings(), []string{"would violate " + violation}) {
		t.Errorf("warned: %d %q", r.code, r.warnings())
	}
	label := func(level string) reply {
		return a.do(t, "PATCH", watched, `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"`+level+`"}}}`, "Content-Type", "application/merge-patch+json")
	}
	if r := label("strict"); r.code != 422 || !strings.Contains(r.status.Message, `metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted`) {
		t.Errorf("a level that is none: %d %q", r.code, r.status.Message)
	}
	until(t, "the warning of pods that are there", func() bool { // the plugin's list may be a moment old
		r = label("restricted")
		if r.code != 200 {
			t.Fatalf("%d %q", r.code, r.body)
		}
		if len(r.warnings()) == 2 {
			return true
		}
		label("privileged")
		return false
	})
	if want := []string{`existing pods in namespace "watched" violate the new PodSecurity enforce level "restricted:latest"`,
		"p: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"}; !slices.Equal(r.warnings(), want) {
		t.Errorf("warned %q", r.warnings())
	}
}

func testKubeletBounds(t *testing.T, a *api) {
	kubelet := a.as(t, "system:node:bound", "system:nodes")
	node := func(labels string) string {
		return `{"apiVersion":"v1","kind":"Node","metadata":{"name":"bound","labels":{` + labels + `}}}`
	}
	refusedWith := func(what string, r reply, words string) {
		t.Helper()
		if r.code != 403 || !strings.Contains(r.status.Message, words) {
			t.Errorf("%s: %d %q, want %q", what, r.code, r.body, words)
		}
	}
	refusedWith("a role of its own", kubelet.do(t, "POST", "/api/v1/nodes", node(`"node-role.kubernetes.io/control-plane":""`)), "is not allowed to set the following labels: node-role.kubernetes.io/control-plane")
	kubelet.must(t, 201, "POST", "/api/v1/nodes", node(`"kubernetes.io/os":"linux"`))
	merge := []string{"Content-Type", "application/merge-patch+json"}
	refusedWith("its taints", kubelet.do(t, "PATCH", "/api/v1/nodes/bound", `{"spec":{"taints":[]}}`, merge...), `node "bound" is not allowed to modify taints`)
	refusedWith("what isolates", kubelet.do(t, "PATCH", "/api/v1/nodes/bound", `{"metadata":{"labels":{"node-restriction.kubernetes.io/a":"b"}}}`, merge...), "is not allowed to modify labels: node-restriction.kubernetes.io/a")
	kubelet.must(t, 200, "PATCH", "/api/v1/nodes/bound", `{"metadata":{"labels":{"node.kubernetes.io/a":"b"}}}`, merge...)
	refusedWith("another node", kubelet.do(t, "POST", "/api/v1/nodes", `{"metadata":{"name":"other"}}`), "other")
	refusedWith("a pod", kubelet.do(t, "POST", "/api/v1/namespaces/default/pods", plainPodBody), "can only create mirror pods")
}

func testMalformedAdmission(t *testing.T, c *testcluster.Cluster) {
	file := filepath.Join(t.TempDir(), "admission.yaml")
	for _, test := range []struct {
		name, text string
		flags      []string
		words      []string
	}{
		{"a field that is none", "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugin: []\n", nil, []string{file, "line 3", `unknown field \"plugin\"`}},
		{"no YAML", "apiVersion: [\n", nil, []string{file, "line"}},
		{"a wrong level", "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration:\n" +
			"    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    defaults:\n      enforce: strict\n", nil,
			[]string{file, "line 9", "defaults.enforce: Invalid value"}},
		{"an unknown plugin", "", []string{"--enable-admission-plugins=SecurityContextDeny"}, []string{"SecurityContextDeny", "is unknown", "AlwaysPullImages", "PodSecurity"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags := test.flags
			if test.text != "" {
				putFile(t, file, test.text)
				flags = append(flags, "--admission-control-config-file="+file)
			}
			said := c.Refused(flags...)
			for _, w := range test.words {
				if !strings.Contains(said, w) {
					t.Errorf("it said %q, want %q in it", said, w)
				}
			}
		})
	}
}

// testChosen runs with PodSecurity configured, LimitRanger off, and AlwaysPullImages and EventRateLimit on.
func testChosen(t *testing.T, a *api) {
	ns := a.leveled(t, "chosen", "")
	if r := a.do(t, "POST", ns+"/pods", privilegedPod); r.code != 403 || !strings.Contains(r.status.Message, `violates PodSecurity "baseline:latest"`) {
		t.Errorf("where the configuration's level holds: %d %q", r.code, r.body)
	}
	a.must(t, 201, "POST", a.leveled(t, "free", "")+"/pods", privilegedPod)
	a.must(t, 201, "POST", ns+"/limitranges", `{"metadata":{"name":"l"},"spec":{"limits":[{"type":"Container","default":{"cpu":"1"}}]}}`)
	m := a.must(t, 201, "POST", ns+"/pods", `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i:1","imagePullPolicy":"Never"}]}}`)
	if at(m, "spec.containers.0.imagePullPolicy") != "Always" || at(m, "spec.containers.0.resources.limits.cpu") != nil {
		t.Errorf("pod %v", m)
	}
	event := func(name string) reply {
		return a.do(t, "POST", ns+"/events", `{"metadata":{"name":"`+name+`"},"involvedObject":{"namespace":"chosen","name":"p"}}`)
	}
	if r := event("a"); r.code != 201 {
		t.Errorf("an event: %d %q", r.code, r.body)
	}
	tooMany := func() bool { // one a second passes; the next one does not
		r := event("b" + strings.ToLower(t.Name()[:1]))
		if r.code == 429 && !strings.Contains(r.status.Message, "limit reached on type Namespace for key chosen") {
			t.Fatalf("refused with %q", r.status.Message)
		}
		return r.code == 429
	}
	until(t, "an event too many", tooMany)
}

// testDisabled runs without PodSecurity and TaintNodesByCondition, and with what its caller turns on.
func testDisabled(t *testing.T, a *api) {
	ns := a.leveled(t, "lax", `"pod-security.kubernetes.io/enforce":"restricted"`)
	m := a.must(t, 201, "POST", ns+"/pods", privilegedPod)
	if at(m, "spec.tolerations.0.tolerationSeconds") != 7.0 || at(m, "spec.tolerations.1.tolerationSeconds") != 30.0 {
		t.Errorf("tolerations %v", at(m, "spec.tolerations"))
	}
	a.must(t, 201, "POST", "/api/v1/namespaces/provided/configmaps", `{"metadata":{"name":"m"}}`)
	if m := a.must(t, 200, "GET", "/api/v1/namespaces/provided", ""); at(m, "status.phase") != "Active" || at(m, "metadata.labels") == nil {
		t.Errorf("a namespace that was provided: %v", m)
	}
	r := a.do(t, "POST", ns+"/services", `{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}],"externalIPs":["192.0.2.7"]}}`)
	if r.code != 403 || !strings.Contains(r.status.Message, "Use of external IPs is denied by admission control.") {
		t.Errorf("external addresses: %d %q", r.code, r.body)
	}
	if m := a.must(t, 201, "POST", "/api/v1/nodes", `{"metadata":{"name":"untainted"}}`); at(m, "spec.taints") != nil {
		t.Errorf("taints %v", at(m, "spec.taints"))
	}
}

func putFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
