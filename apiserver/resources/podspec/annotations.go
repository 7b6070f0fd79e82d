package podspec

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/pkg/pod"
)

// validateAnnotations checks the annotations of a pod or template that mean something.
func validateAnnotations(annotations map[string]string, s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if _, ok := annotations[pod.AnnotationMirror]; ok && s.NodeName == "" {
		errs = append(errs, field.Required(path.Key(pod.AnnotationMirror), "must set spec.nodeName if mirror pod annotation is set"))
	}
	if value, ok := annotations[corev1.PodDeletionCost]; ok {
		if _, err := strconv.ParseInt(value, 10, 32); err != nil || strings.HasPrefix(value, "+") {
			errs = append(errs, field.Invalid(path.Key(corev1.PodDeletionCost), value, "must be a 32bit integer"))
		}
	}
	for _, key := range sets.List(sets.KeySet(annotations)) {
		container, ok := strings.CutPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix)
		if !ok {
			continue
		}
		found := false
		eachContainer(s, func(c *corev1.Container) { found = found || c.Name == container })
		if !found {
			errs = append(errs, field.Invalid(path.Key(key), container, "container not found"))
		}
		switch value := annotations[key]; {
		case value == "", value == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault, value == corev1.DeprecatedAppArmorBetaProfileNameUnconfined,
			strings.HasPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix):
		default:
			errs = append(errs, field.Invalid(path.Key(key), value, fmt.Sprintf("invalid AppArmor profile name: %q", value)))
		}
	}
	return errs
}

// validateFixedAnnotations checks that what the node has read does not change.
func validateFixedAnnotations(is, was map[string]string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, key := range sets.List(sets.KeySet(is).Union(sets.KeySet(was))) {
		var what string
		switch {
		case strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix):
			what = "AppArmor annotations"
		case key == pod.AnnotationMirror:
			what = "mirror pod annotation"
		default:
			continue
		}
		now, have := is[key]
		before, had := was[key]
		switch {
		case had && (!have || now != before):
			errs = append(errs, field.Forbidden(path.Key(key), "may not remove or update "+what))
		case !had:
			errs = append(errs, field.Forbidden(path.Key(key), "may not add "+what))
		}
	}
	return errs
}
