//lint:file-ignore SA1019 ComponentStatus is deprecated, and served as long as Kubernetes serves it.

package core

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/registry"
)

// ComponentStatuses say how the parts of the control plane are; they are asked when somebody wants to know.
var ComponentStatuses = registry.Define(registry.Kind[*corev1.ComponentStatus]{
	Version: "v1", Kind: "ComponentStatus", Plural: "componentstatuses", Short: []string{"cs"},
	Virtual: true, Verbs: []string{"get", "list"},
	Deprecated: "v1 ComponentStatus is deprecated in v1.19+",
	Columns: []registry.Column[*corev1.ComponentStatus]{
		{Name: "Status", Description: "Healthy, Unhealthy or Unknown.", Value: func(c *corev1.ComponentStatus) any {
			switch healthOf(c).Status {
			case corev1.ConditionTrue:
				return "Healthy"
			case corev1.ConditionFalse:
				return "Unhealthy"
			}
			return "Unknown"
		}},
		{Name: "Message", Description: "What it says of itself.", Value: func(c *corev1.ComponentStatus) any { return healthOf(c).Message }},
		{Name: "Error", Description: "Why it could not be asked.", Value: func(c *corev1.ComponentStatus) any { return healthOf(c).Error }},
	},
})

func healthOf(c *corev1.ComponentStatus) corev1.ComponentCondition {
	for _, h := range c.Conditions {
		if h.Type == corev1.ComponentHealthy {
			return h
		}
	}
	return corev1.ComponentCondition{}
}
