package apps

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// templateColumns are what -o wide adds for everything that keeps pods of a template.
func templateColumns[T registry.Object](of func(T) (*corev1.PodTemplateSpec, *metav1.LabelSelector)) []registry.Column[T] {
	join := func(o T, word func(*corev1.Container) string) any {
		t, _ := of(o)
		var words []string
		for i := range t.Spec.Containers {
			words = append(words, word(&t.Spec.Containers[i]))
		}
		return strings.Join(words, ",")
	}
	return []registry.Column[T]{
		{Name: "Containers", Priority: 1, Description: "Names of the containers.", Value: func(o T) any {
			return join(o, func(c *corev1.Container) string { return c.Name })
		}},
		{Name: "Images", Priority: 1, Description: "Images of the containers.", Value: func(o T) any {
			return join(o, func(c *corev1.Container) string { return c.Image })
		}},
		{Name: "Selector", Priority: 1, Description: "Which pods it keeps.", Value: func(o T) any {
			_, s := of(o)
			return metav1.FormatLabelSelector(s)
		}},
	}
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

// validateTemplate checks a template and that its pods will be found again by the selector.
func validateTemplate(t *corev1.PodTemplateSpec, s *metav1.LabelSelector, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if selector, err := metav1.LabelSelectorAsSelector(s); err == nil && s != nil && !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(t, path)...)
	spec := path.Child("spec")
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(spec.Child("restartPolicy"), t.Spec.RestartPolicy, sets.List(sets.New(corev1.RestartPolicyAlways))))
	}
	if t.Spec.ActiveDeadlineSeconds != nil { // the words are the same for deployments
		errs = append(errs, field.Forbidden(spec.Child("activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
	}
	return errs
}
