package storage

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// annotationsDefault mark the class of claims that name none; the second is the older one.
var annotationsDefault = []string{"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"}

// StorageClasses say how volumes are made.
var StorageClasses = registry.Define(registry.Kind[*storagev1.StorageClass]{
	Group: group, Version: "v1", Kind: "StorageClass", Plural: "storageclasses", Short: []string{"sc"},
	ReturnsDeleted: true,
	Default: func(c *storagev1.StorageClass) {
		if c.ReclaimPolicy == nil {
			c.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimDelete)
		}
		if c.VolumeBindingMode == nil {
			c.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
		}
	},
	Validate:       validateStorageClass,
	ValidateUpdate: validateStorageClassUpdate,
	Warn: func(c, _ *storagev1.StorageClass) []string {
		var out []string
		for i, t := range c.AllowedTopologies {
			for j, r := range t.MatchLabelExpressions {
				out = append(out, podspec.WarnLabel(r.Key, field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j).Child("key"))...)
			}
		}
		return out
	},
	WholeTable: true,
	Columns: []registry.Column[*storagev1.StorageClass]{
		{Name: "Name", Format: "name", Description: "Name of the class, and whether it is the default.", Value: func(c *storagev1.StorageClass) any {
			if isDefault(c) {
				return c.Name + " (default)"
			}
			return c.Name
		}},
		{Name: "Provisioner", Description: "Who makes the volumes.", Value: func(c *storagev1.StorageClass) any { return c.Provisioner }},
		{Name: "ReclaimPolicy", Description: "What becomes of them when their claims go.", Value: func(c *storagev1.StorageClass) any {
			return string(ptr.Deref(c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete))
		}},
		{Name: "VolumeBindingMode", Description: "When they are made.", Value: func(c *storagev1.StorageClass) any {
			return string(ptr.Deref(c.VolumeBindingMode, storagev1.VolumeBindingImmediate))
		}},
		{Name: "AllowVolumeExpansion", Type: "boolean", Description: "Whether they may grow.", Value: func(c *storagev1.StorageClass) any {
			return ptr.Deref(c.AllowVolumeExpansion, false)
		}},
		registry.Age[*storagev1.StorageClass](),
	},
})

func isDefault(c *storagev1.StorageClass) bool {
	return slices.ContainsFunc(annotationsDefault, func(key string) bool { return c.Annotations[key] == "true" })
}

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	errs := validateProvisioner(c.Provisioner, field.NewPath("provisioner"))
	errs = append(errs, validateParameters(c.Parameters, field.NewPath("parameters"))...)
	if p := ptr.Deref(c.ReclaimPolicy, ""); p != "" && p != corev1.PersistentVolumeReclaimDelete && p != corev1.PersistentVolumeReclaimRetain {
		errs = append(errs, field.NotSupported(field.NewPath("reclaimPolicy"), p,
			[]corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain}))
	}
	modes := []storagev1.VolumeBindingMode{storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer}
	if m := c.VolumeBindingMode; m == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else if !slices.Contains(modes, *m) {
		errs = append(errs, field.NotSupported(field.NewPath("volumeBindingMode"), *m, modes))
	}
	return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

func validateTopologies(terms []corev1.TopologySelectorTerm, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	var seen []map[string]sets.Set[string]
	for i, t := range terms {
		meaning := map[string]sets.Set[string]{}
		for j, r := range t.MatchLabelExpressions {
			at := at.Index(i).Child("matchLabelExpressions").Index(j)
			if meaning[r.Key] != nil {
				errs = append(errs, field.Duplicate(at.Child("key"), r.Key))
			}
			meaning[r.Key] = sets.New(r.Values...)
			errs = append(errs, validateRequirement(&r, at)...)
		}
		if slices.ContainsFunc(seen, func(other map[string]sets.Set[string]) bool { return apiequality.Semantic.DeepEqual(other, meaning) }) {
			errs = append(errs, field.Duplicate(at.Index(i).Child("matchLabelExpressions"), ""))
		}
		seen = append(seen, meaning)
	}
	return errs
}

func validateRequirement(r *corev1.TopologySelectorLabelRequirement, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Values) == 0 {
		errs = append(errs, field.Required(at.Child("values"), ""))
	}
	seen := sets.New[string]()
	for i, v := range r.Values {
		if seen.Has(v) {
			errs = append(errs, field.Duplicate(at.Child("values").Index(i), v))
		}
		seen.Insert(v)
	}
	return append(errs, metav1validation.ValidateLabelName(r.Key, at.Child("key"))...)
}

// validateStorageClassUpdate keeps what volumes may have been made by.
func validateStorageClassUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := apivalidation.ValidateImmutableField(c.Parameters, old.Parameters, field.NewPath("parameters"))
	errs = append(errs, apivalidation.ValidateImmutableField(c.Provisioner, old.Provisioner, field.NewPath("provisioner"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(c.ReclaimPolicy, old.ReclaimPolicy, field.NewPath("reclaimPolicy"))...)
	return append(errs, apivalidation.ValidateImmutableField(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}
