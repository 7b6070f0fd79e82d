// Package networking declares the kinds of the group networking.k8s.io, a file each.
package networking

import (
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	group = "networking.k8s.io"
	none  = "<none>"
)

// invalid makes errors of the messages that a check returned.
func invalid(value any, messages []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range messages {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

// segment checks a text that must be there and fit between two slashes of a path.
func segment(text string, at *field.Path) field.ErrorList {
	if text == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return invalid(text, content.IsPathSegmentName(text), at)
}
