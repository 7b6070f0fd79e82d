package core

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// ConfigMaps hold configuration that is no secret.
var ConfigMaps = registry.Define(registry.Kind[*corev1.ConfigMap]{
	Version: "v1", Kind: "ConfigMap", Plural: "configmaps", Short: []string{"cm"},
	Namespaced:     true,
	Validate:       validateConfigMap,
	ValidateUpdate: validateConfigMapUpdate,
	Columns: []registry.Column[*corev1.ConfigMap]{
		{Name: "Data", Type: "integer", Description: "Number of entries.", Value: func(c *corev1.ConfigMap) any { return int64(len(c.Data) + len(c.BinaryData)) }},
		registry.Age[*corev1.ConfigMap](),
	},
})

func validateConfigMap(c *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	size := 0
	check := func(bag, key string, length int, twice bool, other string) {
		path := field.NewPath(bag).Key(key)
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(path, key, msg))
		}
		if twice {
			errs = append(errs, field.Invalid(path, key, "duplicate of key present in "+other))
		}
		size += length
	}
	for key, value := range c.Data {
		_, twice := c.BinaryData[key]
		check("data", key, len(value), twice, "binaryData")
	}
	for key, value := range c.BinaryData {
		_, twice := c.Data[key]
		check("binaryData", key, len(value), twice, "data")
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize)) // the object as a whole
	}
	return errs
}

const frozen = "field is immutable when `immutable` is set"

func validateConfigMapUpdate(c, old *corev1.ConfigMap) field.ErrorList {
	if old.Immutable == nil || !*old.Immutable {
		return nil
	}
	var errs field.ErrorList
	if c.Immutable == nil || !*c.Immutable {
		errs = append(errs, field.Forbidden(field.NewPath("immutable"), frozen))
	}
	if !apiequality.Semantic.DeepEqual(c.Data, old.Data) {
		errs = append(errs, field.Forbidden(field.NewPath("data"), frozen))
	}
	if !apiequality.Semantic.DeepEqual(c.BinaryData, old.BinaryData) {
		errs = append(errs, field.Forbidden(field.NewPath("binaryData"), frozen))
	}
	return errs
}
