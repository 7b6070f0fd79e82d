package podspec

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// DefaultClaimSpec fills what a claim of storage, or the template of one, left out.
func DefaultClaimSpec(s *corev1.PersistentVolumeClaimSpec) {
	orNew(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundUp(s.Resources.Limits)
	roundUp(s.Resources.Requests)
	// One field with two names: the older can say less.
	if s.DataSourceRef == nil && s.DataSource != nil {
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: s.DataSource.APIGroup, Kind: s.DataSource.Kind, Name: s.DataSource.Name}
	}
	if r := s.DataSourceRef; s.DataSource == nil && r != nil && ptr.Deref(r.Namespace, "") == "" && populated(r) {
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: r.APIGroup, Kind: r.Kind, Name: r.Name}
	}
}

// populated says whether a data source is of the two kinds that the older field knows.
func populated(r *corev1.TypedObjectReference) bool {
	group := ptr.Deref(r.APIGroup, "")
	return group == "" && r.Kind == "PersistentVolumeClaim" || group == "snapshot.storage.k8s.io" && r.Kind == "VolumeSnapshot"
}

// ValidateClaimSpec checks a claim of storage, or the template of one.
func ValidateClaimSpec(s *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	modes := path.Child("accessModes")
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(modes, "at least 1 access mode is required"))
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, selectorFineness, path.Child("selector"))...)
	alone := false
	for _, m := range s.AccessModes {
		if !accessModes.Has(m) {
			errs = append(errs, field.NotSupported(modes, m, sets.List(accessModes)))
		}
		alone = alone || m == corev1.ReadWriteOncePod
	}
	if alone && len(s.AccessModes) > 1 {
		errs = append(errs, field.Forbidden(modes, "may not use ReadWriteOncePod with other access modes"))
	}
	size, ok := s.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		errs = append(errs, field.Required(path.Child("resources").Key(string(corev1.ResourceStorage)), ""))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(path.Child("resources").Key(string(corev1.ResourceStorage)), size.String(), "must be greater than zero"))
	}
	class := func(name *string, at *field.Path) {
		if name != nil && *name != "" {
			errs = append(errs, registry.Invalid(*name, validation.IsDNS1123Subdomain(*name), at)...)
		}
	}
	class(s.StorageClassName, path.Child("storageClassName"))
	class(s.VolumeAttributesClassName, path.Child("volumeAttributesClassName"))
	errs = append(errs, oneOfIfSet(s.VolumeMode, volumeModes, path.Child("volumeMode"))...)
	return append(errs, validateDataSource(s, path)...)
}

func validateDataSource(s *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := func(group *string, kind, name string, at *field.Path) {
		errs = append(errs, required(name, at.Child("name"))...)
		errs = append(errs, required(kind, at.Child("kind"))...)
		g := ptr.Deref(group, "")
		if g == "" && kind != "" && kind != "PersistentVolumeClaim" {
			errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
		}
		if g != "" {
			errs = append(errs, registry.Invalid(g, validation.IsDNS1123Subdomain(g), at.Child("apiGroup"))...)
		}
	}
	d, r := s.DataSource, s.DataSourceRef
	if d != nil {
		check(d.APIGroup, d.Kind, d.Name, path.Child("dataSource"))
	}
	if r == nil {
		return errs
	}
	check(r.APIGroup, r.Kind, r.Name, path.Child("dataSourceRef"))
	if r.Namespace != nil && *r.Namespace != "" {
		errs = append(errs, registry.Invalid(*r.Namespace, validation.IsDNS1123Label(*r.Namespace), path.Child("dataSourceRef").Child("namespace"))...)
		if d != nil {
			errs = append(errs, field.Invalid(path, d, "may not be specified when dataSourceRef.namespace is specified"))
		}
	} else if d != nil && !apiequality.Semantic.DeepEqual(*d, corev1.TypedLocalObjectReference{APIGroup: r.APIGroup, Kind: r.Kind, Name: r.Name}) {
		errs = append(errs, field.Invalid(path, d, "must match dataSourceRef"))
	}
	return errs
}

// forbidClaimMeta refuses metadata that the template of a claim cannot hand on: only labels and annotations can be copied.
func forbidClaimMeta(m *metav1.ObjectMeta, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	forbid := func(set bool, name string) {
		if set {
			errs = append(errs, field.Forbidden(path.Child(name), "cannot be set"))
		}
	}
	forbid(m.Name != "", "name")
	forbid(m.GenerateName != "", "generateName")
	forbid(m.Namespace != "", "namespace")
	forbid(m.UID != "", "uid")
	forbid(m.ResourceVersion != "", "resourceVersion")
	forbid(len(m.OwnerReferences) > 0, "ownerReferences")
	forbid(len(m.Finalizers) > 0, "finalizers")
	return errs
}
