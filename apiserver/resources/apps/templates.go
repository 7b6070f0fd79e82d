package apps

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// templateColumns are what -o wide adds for everything that keeps pods of a template.
func templateColumns[T registry.Object](of func(T) (*corev1.PodTemplateSpec, *metav1.LabelSelector)) []registry.Column[T] {
	return podspec.TemplateColumns(1,
		func(o T) *corev1.PodTemplateSpec { t, _ := of(o); return t },
		func(o T) string { _, s := of(o); return metav1.FormatLabelSelector(s) },
	)
}

var templatePath = field.NewPath("spec", "template")

// warnNew says what is unwise in something new that makes pods.
func warnNew(name string, t *corev1.PodTemplateSpec) []string {
	return append(podspec.WarnName(name), podspec.WarnTemplate(t, nil, templatePath)...)
}

// validateSelector checks a selector for itself. It must select something, or the owner would own every pod.
func validateSelector(s *metav1.LabelSelector, owner string, path *field.Path) field.ErrorList {
	if s == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, path)
	if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path, s, "empty selector is invalid for "+owner))
	}
	return errs
}

// validateTemplate checks a template and that its pods will be found again by the selector; owner is the kind in the words of
// the refusal.
func validateTemplate(t *corev1.PodTemplateSpec, s *metav1.LabelSelector, owner string, path *field.Path) field.ErrorList {
	errs := validateMatch(t, s, path)
	errs = append(errs, podspec.ValidateTemplate(t, path)...)
	return append(errs, validateForever(&t.Spec, owner, path.Child("spec"))...)
}

// validateMatch checks that a selector finds the pods of a template.
func validateMatch(t *corev1.PodTemplateSpec, s *metav1.LabelSelector, path *field.Path) field.ErrorList {
	if selector, err := metav1.LabelSelectorAsSelector(s); err == nil && s != nil && !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		return field.ErrorList{field.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`")}
	}
	return nil
}

// validateForever checks that pods of a template are not made to end by themselves.
func validateForever(s *corev1.PodSpec, owner string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("restartPolicy"), s.RestartPolicy, sets.List(sets.New(corev1.RestartPolicyAlways))))
	}
	if s.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("activeDeadlineSeconds"), "activeDeadlineSeconds in "+owner+" is not Supported"))
	}
	return errs
}

// notDecremented checks a count of name collisions, which can only grow.
func notDecremented(is, was *int32, path *field.Path) field.ErrorList {
	if was != nil && ptr.Deref(is, 0) < *was {
		return field.ErrorList{field.Invalid(path, ptr.Deref(is, 0), "cannot be decremented")}
	}
	return nil
}

// atLeast checks numbers that may not be below zero, by their names.
func atLeast(path *field.Path, numbers ...number) field.ErrorList {
	var errs field.ErrorList
	for _, n := range numbers {
		errs = append(errs, apivalidation.ValidateNonnegativeField(n.value, path.Child(n.name))...)
	}
	return errs
}

type number struct {
	name  string
	value int64
}
