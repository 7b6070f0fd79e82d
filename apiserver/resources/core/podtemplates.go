package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// PodTemplates keep a template for whoever wants to make pods of it.
var PodTemplates = registry.Define(registry.Kind[*corev1.PodTemplate]{
	Version: "v1", Kind: "PodTemplate", Plural: "podtemplates",
	ReturnsDeleted: true,
	Namespaced:     true, Generation: true,
	Default: func(t *corev1.PodTemplate) { podspec.DefaultTemplate(&t.Template) },
	Validate: func(t *corev1.PodTemplate) field.ErrorList {
		return podspec.ValidateTemplate(&t.Template, field.NewPath("template"))
	},
	Warn: func(t, old *corev1.PodTemplate) []string {
		var was *corev1.PodTemplateSpec
		if old != nil {
			was = &old.Template
		}
		return podspec.WarnTemplate(&t.Template, was, field.NewPath("template"))
	},
	Columns: append(podspec.TemplateColumns(0, func(t *corev1.PodTemplate) *corev1.PodTemplateSpec { return &t.Template }, nil),
		registry.Column[*corev1.PodTemplate]{Name: "Pod Labels", Description: "Labels of its pods.", Value: func(t *corev1.PodTemplate) any {
			return podspec.LabelsText(t.Template.Labels)
		}}),
})
