package podspec

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateOverhead checks what a runtime class says its pods need beside their containers, as if a pod said so.
func ValidateOverhead(overhead corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sets.List(sets.KeySet(overhead)) {
		errs = append(errs, ValidateResourceName(name, path.Key(string(name)))...)
		errs = append(errs, ValidateQuantity(name, overhead[name], path.Key(string(name)))...)
	}
	return errs
}

// ValidateNodeChoice checks the node selector and tolerations that a runtime class gives its pods.
func ValidateNodeChoice(selector map[string]string, tolerations []corev1.Toleration, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabels(selector, path.Child("nodeSelector"))
	at := path.Child("tolerations")
	errs = append(errs, validateTolerations(tolerations, at)...)
	for i := range tolerations {
		for j := range i {
			if apiequality.Semantic.DeepEqual(tolerations[i], tolerations[j]) {
				errs = append(errs, field.Duplicate(at.Index(i), tolerations[i]))
				break
			}
		}
	}
	return errs
}
