package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ValidatingWebhookConfigurations name webhooks that may refuse a write.
var ValidatingWebhookConfigurations = registry.Define(registry.Kind[*admissionregistrationv1.ValidatingWebhookConfiguration]{
	Group: group, Version: version, Kind: "ValidatingWebhookConfiguration", Plural: "validatingwebhookconfigurations",
	Categories: categories, Generation: true,
	Default: func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
		for i := range c.Webhooks {
			defaultHook(validatingHook(&c.Webhooks[i]))
		}
	},
	Validate: func(c *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
		var hooks []hook
		for i := range c.Webhooks {
			hooks = append(hooks, validatingHook(&c.Webhooks[i]))
		}
		return validateHooks(hooks)
	},
	Columns: []registry.Column[*admissionregistrationv1.ValidatingWebhookConfiguration]{
		{Name: "Webhooks", Type: "integer", Description: "How many webhooks it names.", Value: func(c *admissionregistrationv1.ValidatingWebhookConfiguration) any {
			return int64(len(c.Webhooks))
		}},
		registry.Age[*admissionregistrationv1.ValidatingWebhookConfiguration](),
	},
})
