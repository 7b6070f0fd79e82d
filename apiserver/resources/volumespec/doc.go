// Package volumespec defaults and checks the spec of a persistent volume and of a claim, for every kind that has one: volumes and
// claims themselves, and attachments that carry a volume's spec inline. Pure functions; the kinds add what is theirs (status,
// what may change). The rules are those of https://kubernetes.io/docs/concepts/storage/persistent-volumes/ and of the API
// reference.
package volumespec

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

const longestDriver = 63

var (
	accessModes = sets.New(corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod)
	volumeModes = sets.New(corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	onlyStorage = []corev1.ResourceName{corev1.ResourceStorage}

	// shortModes are the names of the access modes in columns, in their order there.
	shortModes = []struct {
		mode  corev1.PersistentVolumeAccessMode
		short string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	}
)

// AccessModes renders access modes as columns show them.
func AccessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var all []string
	for _, m := range shortModes {
		if slices.Contains(modes, m.mode) {
			all = append(all, m.short)
		}
	}
	return strings.Join(all, ",")
}

// validateAccessModes checks the modes that are given; that there are any is another rule.
func validateAccessModes(modes []corev1.PersistentVolumeAccessMode, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	alone, shared := false, false
	for _, m := range modes {
		switch {
		case !accessModes.Has(m):
			errs = append(errs, field.NotSupported(at, m, sets.List(accessModes)))
		case m == corev1.ReadWriteOncePod:
			alone = true
		default:
			shared = true
		}
	}
	if alone && shared {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// ValidateClass checks the name of a class; an empty one is another rule's business.
func ValidateClass(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return nil
	}
	return registry.Invalid(name, validation.IsDNS1123Subdomain(name), at)
}

// ValidateDriver checks the name of a CSI driver.
func ValidateDriver(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if len(name) > longestDriver {
		errs = append(errs, field.TooLong(at, name, longestDriver))
	}
	return append(errs, registry.Invalid(name, validation.IsDNS1123Subdomain(strings.ToLower(name)), at)...)
}

// ValidatePositive checks an amount that must be more than nothing.
func ValidatePositive(q resource.Quantity, at *field.Path) field.ErrorList {
	if q.Sign() <= 0 {
		return field.ErrorList{field.Invalid(at, q.String(), "must be greater than zero")}
	}
	return nil
}

// RoundUp rounds amounts up to thousandths, the finest that is kept.
func RoundUp(list corev1.ResourceList) {
	for name, q := range list {
		if q.RoundUp(resource.Milli) {
			continue
		}
		list[name] = q
	}
}

// Fractional says whether an amount of bytes is not whole.
func Fractional(q resource.Quantity) bool {
	return q.Cmp(*resource.NewQuantity(q.Value(), q.Format)) != 0
}

// named checks a text that must be there and pass a check.
func named(text string, check func(string) []string, at *field.Path) field.ErrorList {
	if text == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return registry.Invalid(text, check(text), at)
}
