package core

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/registry"
)

// ServiceAccounts are what pods act as.
var ServiceAccounts = registry.Define(registry.Kind[*corev1.ServiceAccount]{
	Version: "v1", Kind: "ServiceAccount", Plural: "serviceaccounts", Short: []string{"sa"},
	ReturnsDeleted: true,
	Namespaced:     true,
	Warn: func(a, old *corev1.ServiceAccount) []string {
		const key = "kubernetes.io/enforce-mountable-secrets"
		if _, ok := a.Annotations[key]; !ok || old != nil && old.Annotations[key] == a.Annotations[key] {
			return nil
		}
		return []string{"metadata.annotations[" + key + "]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
	},
	Columns: []registry.Column[*corev1.ServiceAccount]{
		{Name: "Secrets", Type: "integer", Description: "Number of secrets.", Value: func(a *corev1.ServiceAccount) any { return int64(len(a.Secrets)) }},
		registry.Age[*corev1.ServiceAccount](),
	},
})
