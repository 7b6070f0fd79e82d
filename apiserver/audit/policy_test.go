package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"pilothouse.dev/apiserver/request"
)

func policyOf(t testing.TB, rules string) *policy {
	t.Helper()
	p, err := parsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n" + rules))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDecide(t *testing.T) {
	alice := &request.User{Name: "alice", Groups: []string{"dev", "system:authenticated"}}
	pods := request.Info{IsResource: true, Verb: "get", Version: "v1", Namespace: "ns", Resource: "pods", Name: "p"}
	of := func(change func(i *request.Info)) *request.Info { i := pods; change(&i); return &i }
	logs := of(func(i *request.Info) { i.Subresource = "log" })
	node := of(func(i *request.Info) { i.Namespace, i.Resource, i.Name = "", "nodes", "x" })
	scale := of(func(i *request.Info) { i.Group, i.Resource, i.Subresource = "apps", "deployments", "scale" })
	health := &request.Info{Verb: "get", Path: "/healthz/etcd"}
	for _, c := range []struct {
		name, rule string
		u          *request.User
		i          *request.Info
		want       bool
	}{
		{"everything", "level: Metadata", alice, &pods, true},
		{"everything, a path", "level: Metadata", alice, health, true},
		{"everything, nobody", "level: Metadata", nil, &pods, true},
		{"user", "level: Metadata\n  users: [bob, alice]", alice, &pods, true},
		{"another user", "level: Metadata\n  users: [bob]", alice, &pods, false},
		{"user, nobody", "level: Metadata\n  users: [bob]", nil, &pods, false},
		{"group", "level: Metadata\n  userGroups: [dev]", alice, &pods, true},
		{"another group", "level: Metadata\n  userGroups: [ops]", alice, &pods, false},
		{"group, nobody", "level: Metadata\n  userGroups: [dev]", nil, &pods, false},
		{"verb", "level: Metadata\n  verbs: [get]", alice, &pods, true},
		{"another verb", "level: Metadata\n  verbs: [list]", alice, &pods, false},
		{"group of resources", "level: Metadata\n  resources: [{group: \"\"}]", alice, &pods, true},
		{"another group of resources", "level: Metadata\n  resources: [{group: apps}]", alice, &pods, false},
		{"all groups", "level: Metadata\n  resources: [{group: \"*\", resources: [pods]}]", alice, &pods, true},
		{"resource is no path", "level: Metadata\n  resources: [{group: \"*\"}]", alice, health, false},
		{"resource", "level: Metadata\n  resources: [{resources: [pods]}]", alice, &pods, true},
		{"resource is not its subresource", "level: Metadata\n  resources: [{resources: [pods]}]", alice, logs, false},
		{"subresource", "level: Metadata\n  resources: [{resources: [pods/log]}]", alice, logs, true},
		{"another subresource", "level: Metadata\n  resources: [{resources: [pods/exec]}]", alice, logs, false},
		{"all of it", "level: Metadata\n  resources: [{resources: [\"*\"]}]", alice, logs, true},
		{"all subresources", "level: Metadata\n  resources: [{resources: [\"pods/*\"]}]", alice, logs, true},
		{"a subresource of all", "level: Metadata\n  resources: [{resources: [\"*/log\"]}]", alice, logs, true},
		{"a subresource of all, another", "level: Metadata\n  resources: [{group: apps, resources: [\"*/status\"]}]", alice, scale, false},
		{"a subresource of all, not itself", "level: Metadata\n  resources: [{resources: [\"*/log\"]}]", alice, &pods, false},
		{"name", "level: Metadata\n  resources: [{resources: [pods], resourceNames: [p]}]", alice, &pods, true},
		{"another name", "level: Metadata\n  resources: [{resources: [pods], resourceNames: [q]}]", alice, &pods, false},
		{"namespace", "level: Metadata\n  namespaces: [ns]", alice, &pods, true},
		{"another namespace", "level: Metadata\n  namespaces: [m]", alice, &pods, false},
		{"no namespace", "level: Metadata\n  namespaces: [\"\"]", alice, node, true},
		{"no namespace, a pod", "level: Metadata\n  namespaces: [\"\"]", alice, &pods, false},
		{"no namespace, a path", "level: Metadata\n  namespaces: [\"\"]", alice, health, false},
		{"path", "level: Metadata\n  nonResourceURLs: [/healthz/etcd]", alice, health, true},
		{"paths", "level: Metadata\n  nonResourceURLs: [\"/healthz*\"]", alice, health, true},
		{"all paths", "level: Metadata\n  nonResourceURLs: [\"*\"]", alice, health, true},
		{"another path", "level: Metadata\n  nonResourceURLs: [/healthz]", alice, health, false},
		{"path, a pod", "level: Metadata\n  nonResourceURLs: [\"*\"]", alice, &pods, false},
	} {
		d := policyOf(t, "rules:\n- "+c.rule).decide(c.u, c.i)
		if d.none() == c.want {
			t.Errorf("%s: matches is %v", c.name, !d.none())
		}
	}
}

func TestFirstRuleDecides(t *testing.T) {
	p := policyOf(t, `
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  resources: [{resources: [events]}]
- level: RequestResponse
  omitStages: [Panic]
  omitManagedFields: false
  resources: [{resources: [pods]}]
- level: Request
`)
	d := p.decide(nil, &request.Info{IsResource: true, Resource: "pods"})
	if d.level != auditv1.LevelRequestResponse || d.bodies() != (request.Bodies{Sent: true, Answer: true, Owners: true}) {
		t.Errorf("pods: %+v", d)
	}
	if !d.omits(auditv1.StageRequestReceived) || !d.omits(auditv1.StagePanic) || d.omits(auditv1.StageResponseComplete) || d.omits(auditv1.StageResponseStarted) {
		t.Errorf("stages: %b", d.omit)
	}
	if d = p.decide(nil, &request.Info{IsResource: true, Resource: "nodes"}); d.bodies() != (request.Bodies{Sent: true}) || d.omits(auditv1.StagePanic) {
		t.Errorf("nodes: %+v", d)
	}
	if d = p.decide(nil, &request.Info{IsResource: true, Resource: "events"}); !d.none() {
		t.Errorf("events: %+v", d)
	}
}

func TestBadPolicy(t *testing.T) {
	head := "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"the file is empty"}},
		{"not YAML", head + "rules:\n- level: [", []string{"line 4"}},
		{"another kind", "apiVersion: v1\nkind: Pod\n", []string{`line 2: got kind "Pod" of apiVersion "v1", want "Policy" of "audit.k8s.io/v1"`}},
		{"an old version", "apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]", []string{"v1beta1"}},
		{"no rules", head, []string{"rules: Required value", "0 rules"}},
		{"a word that is none", head + "rules:\n- level: None\n- levle: Metadata\n", []string{`line 5: unknown field "rules[1].levle"`}},
		{"twice", head + "rules: []\nrules:\n- level: None\n", []string{`"rules" already set`}},
		{"level", head + "rules:\n- level: All\n", []string{`line 4: rules[0].level: Unsupported value: "All"`}},
		{"of another type", head + "rules:\n- level: None\n  users: alice\n", []string{"users"}},
		{"stage", head + "omitStages: [Received]\nrules:\n- level: None\n  omitStages: [Done]\n", []string{
			`line 3: omitStages[0]: Unsupported value: "Received"`, `line 6: rules[0].omitStages[0]: Unsupported value: "Done"`}},
		{"url", head + "rules:\n- level: None\n  nonResourceURLs: [healthz, /a*b]\n", []string{
			`rules[0].nonResourceURLs[0]: Invalid value: "healthz"`, `nonResourceURLs[1]: Invalid value: "/a*b": non-resource URL wildcards`}},
		{"both", head + "rules:\n- level: None\n  nonResourceURLs: [/x]\n  namespaces: [ns]\n", []string{"both regular resources and non-resource URLs"}},
		{"group with a version", head + "rules:\n- level: None\n  resources: [{group: apps/v1}]\n", []string{`rules[0].resources[0].group: Invalid value: "apps/v1"`}},
		{"names of nothing", head + "rules:\n- level: None\n  resources: [{resourceNames: [x]}]\n", []string{"using resourceNames requires at least one resource"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "policy.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := New(Config{PolicyFile: file}, prometheus.NewRegistry(), zap.NewNop())
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range append(c.want, file) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
	if _, err := New(Config{PolicyFile: "/nonexistent"}, prometheus.NewRegistry(), zap.NewNop()); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("got %v", err)
	}
}
