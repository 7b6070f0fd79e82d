package podspec

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/registry"
)

// TemplateColumns are what -o wide adds for everything that makes pods of a template: the names and images of its containers
// and, unless selector is nil, which pods it keeps. Of priority 0 they are shown without -o wide, too.
func TemplateColumns[T registry.Object](priority int32, template func(T) *corev1.PodTemplateSpec, selector func(T) string) []registry.Column[T] {
	join := func(o T, word func(*corev1.Container) string) any {
		var words []string
		containers := template(o).Spec.Containers
		for i := range containers {
			words = append(words, word(&containers[i]))
		}
		return strings.Join(words, ",")
	}
	cols := []registry.Column[T]{
		{Name: "Containers", Priority: priority, Description: "Names of the containers.", Value: func(o T) any {
			return join(o, func(c *corev1.Container) string { return c.Name })
		}},
		{Name: "Images", Priority: priority, Description: "Images of the containers.", Value: func(o T) any {
			return join(o, func(c *corev1.Container) string { return c.Image })
		}},
	}
	if selector != nil {
		cols = append(cols, registry.Column[T]{
			Name: "Selector", Priority: priority, Description: "Which pods it keeps.", Value: func(o T) any { return selector(o) },
		})
	}
	return cols
}

// LabelsText renders labels as kubectl prints them: sorted, with commas, <none> when there are none.
func LabelsText(labels map[string]string) string {
	if len(labels) == 0 {
		return "<none>"
	}
	pairs := make([]string, 0, len(labels))
	for k, v := range labels {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}
