package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// Bindings put a pod on a node; the pod's own subresource of that name does the same.
var Bindings = registry.Define(registry.Kind[*corev1.Binding]{
	Version: "v1", Kind: "Binding", Plural: "bindings",
	Namespaced: true, Virtual: true, Verbs: []string{"create"},
	Validate: validateBinding,
	Columns:  []registry.Column[*corev1.Binding]{createdAt[*corev1.Binding]()},
})

func validateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	target := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(target.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(target.Child("name"), ""))
	}
	return errs
}
