package resource

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// DeviceClasses are kinds of devices that claims ask for.
var DeviceClasses = registry.Define(registry.Kind[*resourcev1.DeviceClass]{
	Group: group, Version: version, Kind: "DeviceClass", Plural: "deviceclasses",
	ReturnsDeleted: true,
	Generation:     true,
	Validate: func(c *resourcev1.DeviceClass) field.ErrorList {
		spec := field.NewPath("spec")
		errs := list(c.Spec.Selectors, resourcev1.DeviceSelectorsMaxSize, spec.Child("selectors"), selector)
		errs = append(errs, list(c.Spec.Config, resourcev1.DeviceConfigMaxSize, spec.Child("config"),
			func(one *resourcev1.DeviceClassConfiguration, at *field.Path) field.ErrorList {
				return configuration(&one.DeviceConfiguration, at)
			})...)
		if name := c.Spec.ExtendedResourceName; name != nil && !extended(*name) {
			errs = append(errs, field.Invalid(spec.Child("extendedResourceName"), *name, "must be a valid extended resource name"))
		}
		return errs
	},
})

// extended says whether a resource's name is of a domain that is not Kubernetes' own.
func extended(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return ok && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") && !strings.HasPrefix(name, "requests.") &&
		len(validation.IsQualifiedName("requests."+name)) == 0
}
