package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// MutatingWebhookConfigurations name webhooks that may change a write.
var MutatingWebhookConfigurations = registry.Define(registry.Kind[*admissionregistrationv1.MutatingWebhookConfiguration]{
	Group: group, Version: version, Kind: "MutatingWebhookConfiguration", Plural: "mutatingwebhookconfigurations",
	Categories: categories, Generation: true,
	Default: func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
		for i := range c.Webhooks {
			defaultHook(mutatingHook(&c.Webhooks[i]))
			fill(&c.Webhooks[i].ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
		}
	},
	Validate: func(c *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
		var hooks []hook
		for i := range c.Webhooks {
			hooks = append(hooks, mutatingHook(&c.Webhooks[i]))
		}
		return validateHooks(hooks)
	},
	Columns: []registry.Column[*admissionregistrationv1.MutatingWebhookConfiguration]{
		{Name: "Webhooks", Type: "integer", Description: "How many webhooks it names.", Value: func(c *admissionregistrationv1.MutatingWebhookConfiguration) any {
			return int64(len(c.Webhooks))
		}},
		registry.Age[*admissionregistrationv1.MutatingWebhookConfiguration](),
	},
})
