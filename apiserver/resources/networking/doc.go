// Package networking declares the kinds of the group networking.k8s.io, a file each.
package networking

import (
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

const (
	group = "networking.k8s.io"
	none  = "<none>"
)

// segment checks a text that must be there and fit between two slashes of a path.
func segment(text string, at *field.Path) field.ErrorList {
	if text == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return registry.Invalid(text, content.IsPathSegmentName(text), at)
}
