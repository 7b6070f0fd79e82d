// Package storage declares the kinds of the group storage.k8s.io, a file each.
package storage

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

const (
	group = "storage.k8s.io"
	unset = "<unset>"

	mostParameters = 512
	mostText       = 256 << 10 // bytes of keys and values together
)

// validateParameters checks the settings that a class hands to its driver.
func validateParameters(all map[string]string, at *field.Path) field.ErrorList {
	if len(all) > mostParameters {
		return field.ErrorList{field.TooLong(at, "Provisioner Parameters exceeded max allowed", mostParameters)}
	}
	return validateText(all, at)
}

func validateText(all map[string]string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	total := 0
	for key, value := range all {
		if key == "" {
			errs = append(errs, field.Invalid(at, key, "field can not be empty."))
		}
		total += len(key) + len(value)
	}
	if total > mostText {
		errs = append(errs, field.TooLong(at, "", mostText))
	}
	return errs
}

// validateProvisioner checks who makes the volumes of a class.
func validateProvisioner(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return registry.Invalid(name, validation.IsQualifiedName(strings.ToLower(name)), at)
}
