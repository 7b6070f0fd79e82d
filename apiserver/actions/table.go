package actions

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"pilothouse.dev/apiserver/registry"
)

// table is every action: where it hangs, what it takes and which verbs it has.
func table(p Parts) []line {
	return []line{
		{corev1.SchemeGroupVersion.WithResource("bindings"), registry.Action{Serve: p.bindNamed}},
		{corev1.SchemeGroupVersion.WithResource("componentstatuses"), registry.Action{Serve: p.componentStatus}},
		{pods, registry.Action{Name: "binding", Kind: core("Binding"), Verbs: []string{"create"}, Serve: p.bind}},
		{pods, registry.Action{
			Name: "eviction", Kind: policyv1.SchemeGroupVersion.WithKind("Eviction"), Verbs: []string{"create"}, Serve: p.evict,
		}},
		{pods, registry.Action{Name: "log", Kind: core("Pod"), Verbs: []string{"get"}, Serve: p.log}},
		{pods, registry.Action{Name: "exec", Kind: core("PodExecOptions"), Verbs: []string{"create", "get"}, Serve: p.stream(p.exec("exec"))}},
		{pods, registry.Action{Name: "attach", Kind: core("PodAttachOptions"), Verbs: []string{"create", "get"}, Serve: p.stream(p.exec("attach"))}},
		{pods, registry.Action{Name: "portforward", Kind: core("PodPortForwardOptions"), Verbs: []string{"create", "get"}, Serve: p.stream(p.portForward)}},
		{pods, registry.Action{Name: "proxy", Kind: core("PodProxyOptions"), Verbs: proxyVerbs, Serve: p.connect(p.proxy("pod", p.toPod))}},
		{services, registry.Action{Name: "proxy", Kind: core("ServiceProxyOptions"), Verbs: proxyVerbs, Serve: p.connect(p.proxy("service", p.toService))}},
		{nodes, registry.Action{Name: "proxy", Kind: core("NodeProxyOptions"), Verbs: proxyVerbs, Serve: p.connect(p.proxy("node", p.toNode))}},
		{accounts, registry.Action{Name: "token", Kind: tokenRequestKind, Verbs: []string{"create"}, Serve: p.token}},
		{authenticationv1.SchemeGroupVersion.WithResource("tokenreviews"), registry.Action{Serve: p.reviewToken}},
		{authenticationv1.SchemeGroupVersion.WithResource("selfsubjectreviews"), registry.Action{Serve: p.reviewSelf}},
		{authorizationv1.SchemeGroupVersion.WithResource("subjectaccessreviews"), registry.Action{Serve: p.reviewAccess}},
		{authorizationv1.SchemeGroupVersion.WithResource("localsubjectaccessreviews"), registry.Action{Serve: p.reviewLocalAccess}},
		{authorizationv1.SchemeGroupVersion.WithResource("selfsubjectaccessreviews"), registry.Action{Serve: p.reviewOwnAccess}},
		{authorizationv1.SchemeGroupVersion.WithResource("selfsubjectrulesreviews"), registry.Action{Serve: p.reviewRules}},
		{namespaces, registry.Action{Name: "finalize", Kind: core("Namespace"), Verbs: []string{"update"}, Serve: p.finalize}},
	}
}
