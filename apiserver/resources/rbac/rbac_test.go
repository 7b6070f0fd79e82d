package rbac

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"pilothouse.dev/apiserver/registry/kindtest"
)

func TestRoles(t *testing.T) {
	const role = `{metadata: {name: "system:a"}, rules: [{verbs: [get], apiGroups: [""], resources: [pods]}]}`
	cases := []kindtest.Case{
		{Name: "good"},
		{Name: "nothing", Diff: `{rules: []}`},
		{Name: "bad name", Diff: `{metadata: {name: "a/b"}}`, Want: []string{"metadata.name: Invalid value"}},
		{Name: "no verbs", Diff: `{rules: [{apiGroups: [""], resources: [pods]}]}`, Want: []string{"rules[0].verbs: Required value"}},
		{Name: "no groups", Diff: `{rules: [{verbs: [get], resources: [pods]}]}`, Want: []string{"rules[0].apiGroups: Required value"}},
		{Name: "no resources", Diff: `{rules: [{verbs: [get], apiGroups: [apps]}]}`, Want: []string{"rules[0].resources: Required value"}},
		{Name: "both sorts", Diff: `{rules: [{verbs: [get], apiGroups: [""], resources: [pods], nonResourceURLs: [/healthz]}]}`,
			Want: []string{"rules[0].nonResourceURLs: Invalid value"}},
	}
	kindtest.Create(t, ClusterRoles, role, append(cases,
		kindtest.Case{Name: "paths", Diff: `{rules: [{verbs: [get], nonResourceURLs: [/healthz]}]}`},
		kindtest.Case{Name: "aggregated", Diff: `{aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}}`},
		kindtest.Case{Name: "aggregated of none", Diff: `{aggregationRule: {clusterRoleSelectors: []}}`,
			Want: []string{"aggregationRule.clusterRoleSelectors: Required value"}},
		kindtest.Case{Name: "aggregated by a bad selector", Diff: `{aggregationRule: {clusterRoleSelectors: [{matchExpressions: [{key: a, operator: Near}]}]}}`,
			Want: []string{"aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value"}}))
	cases[6].Want = []string{"rules[0].nonResourceURLs: Invalid value", "rules[0].nonResourceURLs: Invalid value"}
	kindtest.Create(t, Roles, role, append(cases,
		kindtest.Case{Name: "paths", Diff: `{rules: [{verbs: [get], nonResourceURLs: [/healthz]}]}`, Want: []string{"rules[0].nonResourceURLs: Invalid value"}}))
}

const binding = `{roleRef: {kind: ClusterRole, name: admin}, subjects: [{kind: User, name: eve}, {kind: ServiceAccount, name: bot, namespace: b}, {kind: Group, name: g}]}`

func TestBindings(t *testing.T) {
	cases := []kindtest.Case{
		{Name: "good"},
		{Name: "of nobody", Diff: `{subjects: null}`},
		{Name: "of another group", Diff: `{roleRef: {apiGroup: apps}}`, Want: []string{"roleRef.apiGroup: Unsupported value"}},
		{Name: "of a pod", Diff: `{roleRef: {kind: Pod}}`, Want: []string{"roleRef.kind: Unsupported value"}},
		{Name: "of no name", Diff: `{roleRef: {name: ""}}`, Want: []string{"roleRef.name: Required value"}},
		{Name: "of a path", Diff: `{roleRef: {name: a/b}}`, Want: []string{"roleRef.name: Invalid value"}},
		{Name: "bad subjects", Diff: `{subjects: [{kind: Robot, name: r}, {kind: User}, {kind: User, name: u, apiGroup: apps}, {kind: ServiceAccount, name: "a:b", namespace: c, apiGroup: x}]}`,
			Want: []string{"subjects[0].kind: Unsupported value", "subjects[1].name: Required value", "subjects[2].apiGroup: Unsupported value",
				"subjects[3].apiGroup: Unsupported value", "subjects[3].name: Invalid value"}},
	}
	homeless := kindtest.Case{Name: "an account of no namespace", Diff: `{subjects: [{kind: ServiceAccount, name: bot}]}`}
	role := kindtest.Case{Name: "of a role", Diff: `{roleRef: {kind: Role}}`}
	kindtest.Create(t, RoleBindings, binding, append(cases, homeless, role))
	homeless.Want, role.Want = []string{"subjects[0].namespace: Required value"}, []string{"roleRef.kind: Unsupported value"}
	kindtest.Create(t, ClusterRoleBindings, binding, append(cases, homeless, role))

	updates := []kindtest.Case{
		{Name: "other subjects", Diff: `{subjects: []}`},
		{Name: "another role", Diff: `{roleRef: {name: edit}}`, Want: []string{"roleRef: Invalid value"}},
	}
	kindtest.Update(t, RoleBindings, binding, updates)
	kindtest.Update(t, ClusterRoleBindings, binding, updates)
}

func TestDefaultsAndColumns(t *testing.T) {
	b := kindtest.New(t, RoleBindings, binding, "").(*rbacv1.RoleBinding)
	if b.RoleRef.APIGroup != group || b.Subjects[0].APIGroup != group || b.Subjects[1].APIGroup != "" || b.Subjects[2].APIGroup != group {
		t.Errorf("groups are %v", b)
	}
	kindtest.Shows(t, RoleBindings, b, map[string]string{"Role": "ClusterRole/admin", "Users": "eve", "Groups": "g", "ServiceAccounts": "b/bot"})
	r := kindtest.New(t, Roles, `{metadata: {creationTimestamp: "2026-01-02T03:04:05+01:00"}}`, "")
	kindtest.Shows(t, Roles, r, map[string]string{"Created At": "2026-01-02T02:04:05Z"})
}
