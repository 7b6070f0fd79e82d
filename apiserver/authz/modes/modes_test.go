package modes

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/request"
)

// source allows one verb.
type source string

func (s source) Decide(_ context.Context, _ *request.User, i *request.Info) (authz.Decision, string, error) {
	if i.Verb == string(s) {
		return authz.Allowed, "allowed by " + string(s), nil
	}
	return authz.NoOpinion, string(s), nil
}

func (source) Rules(context.Context, *request.User, string) (authz.Rules, error) {
	return authz.Rules{}, nil
}

func parts() Parts {
	return Parts{RBAC: source("rbac"), Node: source("node"), Metrics: prometheus.NewRegistry(), Log: zap.NewNop()}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// hookAt is a service that allows the verb hook, and a kubeconfig that names it.
func hookAt(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","status":{"allowed":true,"reason":"allowed by hook"}}`)
	}))
	t.Cleanup(s.Close)
	return write(t, "hook.kubeconfig", `
apiVersion: v1
kind: Config
clusters: [{name: hook, cluster: {server: "`+s.URL+`"}}]
contexts: [{name: hook, context: {cluster: hook, user: ""}}]
current-context: hook
`)
}

func decide(t *testing.T, m *Modes, verb string) string {
	t.Helper()
	v := m.Decide(t.Context(), &request.User{Name: "jane"}, &request.Info{IsResource: true, Verb: verb, Resource: "things"})
	return v.Reason
}

func TestFlags(t *testing.T) {
	hook := hookAt(t)
	for _, c := range []struct {
		name string
		cfg  Config
		verb string
		want string // the reason, or what is wrong
	}{
		{"the default", Config{}, "rbac", "allowed by rbac"},
		{"both are asked", Config{}, "x", "node\nrbac"},
		{"their order", Config{Modes: []string{RBAC, Node}}, "x", "rbac\nnode"},
		{"one", Config{Modes: []string{RBAC}}, "node", "rbac"},
		{"nobody", Config{Modes: []string{AlwaysDeny}}, "rbac", "Everything is forbidden."},
		{"a service", Config{Modes: []string{RBAC, Webhook}, WebhookFile: hook, Version: "v1"}, "x", "allowed by hook"},
		{"a service is not asked", Config{Modes: []string{RBAC, Webhook}, WebhookFile: hook, Version: "v1"}, "rbac", "allowed by rbac"},
		{"an unknown mode", Config{Modes: []string{RBAC, "ABAC"}}, "", `--authorization-mode: "ABAC" is not a valid mode: one of AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook`},
		{"a mode twice", Config{Modes: []string{RBAC, RBAC}}, "", "has mode specified more than once"},
		{"a service without a file", Config{Modes: []string{Webhook}}, "", "Webhook needs --authorization-webhook-config-file"},
		{"a file without a service", Config{WebhookFile: hook}, "", "does not have Webhook"},
		{"another version", Config{Modes: []string{Webhook}, WebhookFile: hook, Version: "v2"}, "", `--authorization-webhook-version: "v2" is not a version`},
		{"no such file", Config{Modes: []string{Webhook}, WebhookFile: "/nowhere", Version: "v1"}, "", "--authorization-webhook-config-file: reading /nowhere"},
		{"a bad path", Config{Paths: []string{"/a*b*"}}, "", "--authorization-always-allow-paths: only a trailing * is allowed"},
		{"modes and a configuration", Config{Modes: []string{RBAC}, File: "x"}, "", "--authorization-config can not be specified when"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := New(c.cfg, parts())
			if err != nil {
				if c.verb != "" || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v", err)
				}
				return
			}
			if got := decide(t, m, c.verb); got != c.want {
				t.Errorf("got %q", got)
			}
		})
	}
	m, err := New(Config{}, parts())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]authz.Decision{"/healthz": authz.Allowed, "/secret": authz.NoOpinion} {
		if v := m.Decide(t.Context(), &request.User{Name: "jane"}, &request.Info{Verb: "get", Path: path}); v.Decision != want {
			t.Errorf("%s: %+v", path, v)
		}
	}
	if v := m.Decide(t.Context(), &request.User{Groups: []string{authz.Masters}}, &request.Info{Verb: "x", IsResource: true}); v.Decision != authz.Allowed {
		t.Errorf("a master: %+v", v)
	}
}

const header = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n"

const hookText = `
- type: Webhook
  name: hook
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: %q}
`

func TestFile(t *testing.T) {
	hook := hookAt(t)
	for _, c := range []struct {
		name, text string
		want       []string // of the error
	}{
		{"built in", header + "authorizers: [{type: RBAC, name: rbac}, {type: Node, name: node}]", nil},
		{"a service", header + "authorizers:" + fmt.Sprintf(hookText, hook), nil},
		{"an older version", strings.Replace(header, "v1", "v1beta1", 1) + "authorizers: [{type: RBAC, name: rbac}]", nil},
		{"empty", "", []string{"the file is empty"}},
		{"another kind", strings.Replace(header, "Authorization", "Authentication", 1), []string{`kind "AuthenticationConfiguration"`}},
		{"no YAML", header + "authorizers: [", []string{"line 3"}},
		{"an unknown field", header + "authorisers: []", []string{`unknown field "authorisers"`}},
		{"nobody", header + "authorizers: []", []string{"authorizers: Required value: at least one authorization mode must be defined"}},
		{"an unknown type", header + "authorizers: [{type: ABAC, name: x}]", []string{`authorizers[0].type: Unsupported value: "ABAC"`}},
		{"nothing said", header + "authorizers: [{}]", []string{"authorizers[0].type: Required value", "authorizers[0].name: Required value"}},
		{"twice", header + "authorizers: [{type: RBAC, name: x}, {type: RBAC, name: x}]", []string{`authorizers[1].type: Duplicate value: "RBAC"`, `authorizers[1].name: Duplicate value: "x"`}},
		{"a bad name", header + "authorizers: [{type: RBAC, name: A_}]", []string{`authorizers[0].name: Invalid value: "A_": authorizer name is invalid`}},
		{"a service of none", header + "authorizers: [{type: Webhook, name: x}]", []string{"authorizers[0].webhook: Required value: required when type=Webhook"}},
		{"none of a service", header + "authorizers: [{type: RBAC, name: x, webhook: {}}]", []string{"authorizers[0].webhook: Invalid value"}},
		{"a service of nothing", header + "authorizers: [{type: Webhook, name: x, webhook: {}}]", []string{
			"webhook.timeout: Required value", "webhook.subjectAccessReviewVersion: Required value", "webhook.failurePolicy: Required value", "webhook.connectionInfo.type: Required value"}},
		{"CEL", header + "authorizers:" + fmt.Sprintf(hookText, hook) + "    matchConditions: [{expression: 'true'}]\n", []string{"webhook.matchConditions: Forbidden: CEL expressions are not supported here"}},
		{"a long timeout", header + "authorizers:" + strings.Replace(fmt.Sprintf(hookText, hook), "3s", "31s", 1), []string{"webhook.timeout: Invalid value: \"31s\": must be > 0s and <= 30s"}},
		{"no such kubeconfig", header + "authorizers:" + fmt.Sprintf(hookText, "/nowhere"), []string{`authorizer "hook": reading /nowhere`}},
		{"in the cluster", header + "authorizers:" + strings.Replace(fmt.Sprintf(hookText, hook), "{type: KubeConfigFile", "{type: InClusterConfig", 1), []string{`connectionInfo.type: Unsupported value: "InClusterConfig"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := write(t, "config.yaml", c.text)
			_, err := New(Config{File: file}, parts())
			if (err == nil) != (c.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
					t.Errorf("no %q and file in %v", want, err)
				}
			}
		})
	}
	if _, err := New(Config{File: "/nowhere"}, parts()); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("no such file: %v", err)
	}
}

// TestReload follows a file: a good one counts, a bad one changes nothing but a metric.
func TestReload(t *testing.T) {
	file := write(t, "config.yaml", header+"authorizers: [{type: RBAC, name: rbac}]")
	p := parts()
	m, err := New(Config{File: file}, p)
	if err != nil {
		t.Fatal(err)
	}
	if got := decide(t, m, "node"); got != "rbac" {
		t.Fatalf("at first %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	count := func(status string) float64 {
		t.Helper()
		families, err := p.Metrics.(*prometheus.Registry).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, x := range f.GetMetric() {
				if f.GetName() == "apiserver_authorization_config_controller_automatic_reloads_total" && x.GetLabel()[0].GetValue() == status {
					return x.GetCounter().GetValue()
				}
			}
		}
		return 0
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.After(time.Minute); !ok(); {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("never: %s", what)
			}
		}
	}
	put(header + "authorizers: [{type: Node, name: node}]")
	until("the new one counts", func() bool { return decide(t, m, "node") == "allowed by node" })
	until("it is counted", func() bool { return count("success") == 1 })
	put(header + "authorizers: [{type: None, name: node}]")
	until("a bad one is counted", func() bool { return count("failure") == 1 })
	if got := decide(t, m, "node"); got != "allowed by node" {
		t.Errorf("after a bad one %q", got)
	}
}
