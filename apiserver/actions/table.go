package actions

import (
	policyv1 "k8s.io/api/policy/v1"

	"pilothouse.dev/apiserver/registry"
)

// table is every action: where it hangs, what it takes and which verbs it has.
func table(p Parts) []line {
	return []line{
		{pods, registry.Action{Name: "binding", Kind: core("Binding"), Verbs: []string{"create"}, Serve: p.bind}},
		{pods, registry.Action{
			Name: "eviction", Kind: policyv1.SchemeGroupVersion.WithKind("Eviction"), Verbs: []string{"create"}, Serve: p.evict,
		}},
		{pods, registry.Action{Name: "log", Kind: core("Pod"), Verbs: []string{"get"}, Serve: p.log}},
		{pods, registry.Action{Name: "exec", Kind: core("PodExecOptions"), Verbs: []string{"create", "get"}, Serve: p.exec("exec")}},
		{pods, registry.Action{Name: "attach", Kind: core("PodAttachOptions"), Verbs: []string{"create", "get"}, Serve: p.exec("attach")}},
		{pods, registry.Action{Name: "portforward", Kind: core("PodPortForwardOptions"), Verbs: []string{"create", "get"}, Serve: p.portForward}},
		{namespaces, registry.Action{Name: "finalize", Kind: core("Namespace"), Verbs: []string{"update"}, Serve: p.finalize}},
	}
}
