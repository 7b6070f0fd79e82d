// Package node declares the kinds of the group node.k8s.io, a file each.
package node

import (
	nodev1 "k8s.io/api/node/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// RuntimeClasses name the ways in which nodes can run containers.
var RuntimeClasses = registry.Define(registry.Kind[*nodev1.RuntimeClass]{
	Group: "node.k8s.io", Version: "v1", Kind: "RuntimeClass", Plural: "runtimeclasses",
	Validate: validateRuntimeClass,
	ValidateUpdate: func(c, old *nodev1.RuntimeClass) field.ErrorList {
		return apivalidation.ValidateImmutableField(c.Handler, old.Handler, field.NewPath("handler"))
	},
	Columns: []registry.Column[*nodev1.RuntimeClass]{
		{Name: "Handler", Description: "What the nodes call it.", Value: func(c *nodev1.RuntimeClass) any { return c.Handler }},
		registry.Age[*nodev1.RuntimeClass](),
	},
})

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("handler")
	if c.Handler == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		for _, msg := range validation.IsDNS1123Label(c.Handler) {
			errs = append(errs, field.Invalid(at, c.Handler, msg))
		}
	}
	if c.Overhead != nil {
		errs = append(errs, podspec.ValidateOverhead(c.Overhead.PodFixed, field.NewPath("overhead", "podFixed"))...)
	}
	if c.Scheduling != nil {
		errs = append(errs, podspec.ValidateNodeChoice(c.Scheduling.NodeSelector, c.Scheduling.Tolerations, field.NewPath("scheduling"))...)
	}
	return errs
}
