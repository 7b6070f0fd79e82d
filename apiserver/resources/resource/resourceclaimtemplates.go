package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ResourceClaimTemplates are of what claims are made, one a pod.
var ResourceClaimTemplates = registry.Define(registry.Kind[*resourcev1.ResourceClaimTemplate]{
	Group: group, Version: version, Kind: "ResourceClaimTemplate", Plural: "resourceclaimtemplates",
	ReturnsDeleted: true,
	Namespaced:     true,
	Default:        func(t *resourcev1.ResourceClaimTemplate) { defaultClaim(&t.Spec.Spec) },
	Validate: func(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
		meta := field.NewPath("spec", "metadata")
		errs := apivalidation.ValidateAnnotations(t.Spec.Annotations, meta.Child("annotations"))
		errs = append(errs, metav1validation.ValidateLabels(t.Spec.Labels, meta.Child("labels"))...)
		return append(errs, validateClaim(&t.Spec.Spec, field.NewPath("spec", "spec"))...)
	},
	ValidateUpdate: func(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
		return apivalidation.ValidateImmutableField(t.Spec, old.Spec, field.NewPath("spec"))
	},
})
