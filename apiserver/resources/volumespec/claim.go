package volumespec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

const (
	claimKind     = "PersistentVolumeClaim"
	snapshotKind  = "VolumeSnapshot"
	snapshotGroup = "snapshot.storage.k8s.io"
)

// DefaultClaim fills in what a claim's spec leaves out: the mode, and of the two ways to say where the data comes from the one
// that is missing.
func DefaultClaim(s *corev1.PersistentVolumeClaimSpec) {
	RoundUp(s.Resources.Limits)
	RoundUp(s.Resources.Requests)
	if s.VolumeMode == nil {
		s.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	}
	ref := s.DataSourceRef
	if ref != nil {
		// Data of other namespaces is not on offer; the field that asks for it is dropped, as Kubernetes drops it by default.
		ref.Namespace = nil
	}
	if d := s.DataSource; d != nil && !ownSource(d) && (ref == nil || !sameSource(d, ref)) {
		s.DataSource = nil // the older field knows two kinds only, and what is not one of them counts as not said
	}
	switch {
	case ref != nil && s.DataSource == nil:
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: copied(ref.APIGroup), Kind: ref.Kind, Name: ref.Name}
	case ref == nil && s.DataSource != nil:
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: copied(s.DataSource.APIGroup), Kind: s.DataSource.Kind, Name: s.DataSource.Name}
	}
}

func copied(s *string) *string {
	if s == nil {
		return nil
	}
	return ptr.To(*s)
}

// ownSource says whether a source is a claim or a snapshot.
func ownSource(d *corev1.TypedLocalObjectReference) bool {
	group := ptr.Deref(d.APIGroup, "")
	return group == "" && d.Kind == claimKind || group == snapshotGroup && d.Kind == snapshotKind
}

func sameSource(d *corev1.TypedLocalObjectReference, r *corev1.TypedObjectReference) bool {
	return ptr.Deref(d.APIGroup, "") == ptr.Deref(r.APIGroup, "") && d.Kind == r.Kind && d.Name == r.Name
}

// ValidateClaim checks the spec of a claim.
func ValidateClaim(s *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	modes := at.Child("accessModes")
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(modes, "at least 1 access mode is required"))
	}
	errs = append(errs, validateAccessModes(s.AccessModes, modes)...)
	if s.Selector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	}
	size := at.Child("resources").Key(string(corev1.ResourceStorage))
	if q, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(size, ""))
	} else {
		errs = append(errs, ValidatePositive(q, size)...)
	}
	if c := s.StorageClassName; c != nil {
		errs = append(errs, ValidateClass(*c, at.Child("storageClassName"))...)
	}
	if m := s.VolumeMode; m != nil && !volumeModes.Has(*m) {
		errs = append(errs, field.NotSupported(at.Child("volumeMode"), *m, sets.List(volumeModes)))
	}
	errs = append(errs, validateDataSources(s, at)...)
	if c := s.VolumeAttributesClassName; c != nil {
		errs = append(errs, ValidateClass(*c, at.Child("volumeAttributesClassName"))...)
	}
	return errs
}

func validateDataSources(s *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if d := s.DataSource; d != nil {
		errs = append(errs, validateDataSource(d.APIGroup, d.Kind, d.Name, at.Child("dataSource"))...)
	}
	r := s.DataSourceRef
	if r == nil {
		return errs
	}
	path := at.Child("dataSourceRef")
	errs = append(errs, validateDataSource(r.APIGroup, r.Kind, r.Name, path)...)
	if ns := ptr.Deref(r.Namespace, ""); ns != "" {
		errs = append(errs, registry.Invalid(ns, apivalidation.ValidateNamespaceName(ns, false), path.Child("namespace"))...)
		if s.DataSource != nil {
			errs = append(errs, field.Invalid(at, at.Child("dataSource").String(), "may not be specified when dataSourceRef.namespace is specified"))
		}
	} else if s.DataSource != nil && !sameSource(s.DataSource, r) {
		errs = append(errs, field.Invalid(at, at.Child("dataSource").String(), "must match dataSourceRef"))
	}
	return errs
}

func validateDataSource(group *string, kind, name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	if kind == "" {
		errs = append(errs, field.Required(at.Child("kind"), ""))
	}
	g := ptr.Deref(group, "")
	if g == "" && kind != claimKind {
		errs = append(errs, field.Invalid(at, kind, fmt.Sprintf("must be '%s' when referencing the default apiGroup", claimKind)))
	}
	if g != "" {
		errs = append(errs, registry.Invalid(g, validation.IsDNS1123Subdomain(g), at.Child("apiGroup"))...)
	}
	return errs
}
