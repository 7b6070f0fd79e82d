package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePod checks a whole pod.
func ValidatePod(p *corev1.Pod) field.ErrorList {
	return validateSpec(&p.Spec, field.NewPath("spec"))
}

// ValidateTemplate checks a pod template at path.
func ValidateTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	meta := path.Child("metadata")
	errs := metav1validation.ValidateLabels(t.Labels, meta.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, meta.Child("annotations"))...)
	return append(errs, validateSpec(&t.Spec, path.Child("spec"))...)
}

func validateSpec(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	return errs
}

// ValidatePodUpdate says what may change in a pod.
func ValidatePodUpdate(p, old *corev1.Pod) field.ErrorList { return nil }

// WarnPod says what is legal but unwise.
func WarnPod(p, old *corev1.Pod) []string { return nil }

// WarnTemplate does so of a template.
func WarnTemplate(t, old *corev1.PodTemplateSpec) []string { return nil }

// ValidateQuantity checks an amount of a resource.
func ValidateQuantity(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	return nil
}

var taintEffects = sets.New(corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)

// ValidateTaintEffect checks an effect; empty means all of them where that is allowed.
func ValidateTaintEffect(e corev1.TaintEffect, emptyAllowed bool, path *field.Path) field.ErrorList {
	if e == "" && emptyAllowed {
		return nil
	}
	if e == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if !taintEffects.Has(e) {
		return field.ErrorList{field.NotSupported(path, e, sets.List(taintEffects))}
	}
	return nil
}

func podLevel(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory
}
