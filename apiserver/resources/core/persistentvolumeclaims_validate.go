package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/resources/volumespec"
)

// resizeStates are what may be said of a resource that is being resized.
var resizeStates = sets.New(corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
	corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible)

// validateClaimUpdate keeps what a claim asks for. What may change: the volume's name, a class where there was none, the class of
// attributes, and, once it is bound, the size, which grows and goes back no further than to what the volume has.
func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	now, was := c.Spec.DeepCopy(), old.Spec.DeepCopy()
	if was.VolumeName == "" {
		was.VolumeName = now.VolumeName
	}
	if mayNameClass(c, old) {
		was.StorageClassName = now.StorageClassName
	}
	if c.Status.Phase == corev1.ClaimBound {
		now.Resources.Requests = withStorageOf(now.Resources.Requests, was.Resources.Requests)
	}
	now.VolumeAttributesClassName = was.VolumeAttributesClassName
	if !apiequality.Semantic.DeepEqual(now, was) {
		errs = append(errs, field.Forbidden(spec, fmt.Sprintf(
			"spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(was, now))))
	}
	size, before := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if have := old.Status.Capacity[corev1.ResourceStorage]; size.Cmp(before) < 0 && size.Cmp(have) <= 0 {
		errs = append(errs, field.Forbidden(spec.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(c.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Status.CurrentVolumeAttributesClassName == nil || old.Spec.VolumeAttributesClassName == nil {
		return errs
	}
	switch class := c.Spec.VolumeAttributesClassName; {
	case class == nil:
		errs = append(errs, field.Forbidden(spec.Child("volumeAttributesClassName"), "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"))
	case *class == "" && *old.Spec.VolumeAttributesClassName != "":
		errs = append(errs, field.Forbidden(spec.Child("volumeAttributesClassName"), "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"))
	}
	return errs
}

// mayNameClass says whether a change of the class is the naming of one that was not named before, or by an annotation only.
func mayNameClass(c, old *corev1.PersistentVolumeClaim) bool {
	if old.Spec.StorageClassName != nil || c.Spec.StorageClassName == nil {
		return false
	}
	before, had := old.Annotations[corev1.BetaStorageClassAnnotation]
	after, has := c.Annotations[corev1.BetaStorageClassAnnotation]
	if !had {
		return !has
	}
	return before == *c.Spec.StorageClassName && (!has || after == before)
}

// withStorageOf is list with the storage of other.
func withStorageOf(list, other corev1.ResourceList) corev1.ResourceList {
	q, ok := other[corev1.ResourceStorage]
	if !ok || list == nil {
		return list
	}
	list = list.DeepCopy()
	list[corev1.ResourceStorage] = q
	return list
}

func validateClaimStatus(c, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	var errs field.ErrorList
	at, s := field.NewPath("status"), &c.Status
	for _, name := range sets.List(sets.KeySet(s.Capacity)) {
		errs = append(errs, validateStorage(s.Capacity[name], at.Child("capacity").Key(string(name)))...)
	}
	statuses := at.Child("allocatedResourceStatuses")
	for _, name := range sets.List(sets.KeySet(s.AllocatedResourceStatuses)) {
		errs = append(errs, validateResized(name, statuses)...)
		if state := s.AllocatedResourceStatuses[name]; !resizeStates.Has(state) {
			errs = append(errs, field.NotSupported(statuses.Key(string(name)), state, sets.List(resizeStates)))
		}
	}
	resources := at.Child("allocatedResources")
	for _, name := range sets.List(sets.KeySet(s.AllocatedResources)) {
		errs = append(errs, validateResized(name, resources)...)
		if q := s.AllocatedResources[name]; name == corev1.ResourceStorage {
			errs = append(errs, volumespec.ValidatePositive(q, resources.Key(string(name)))...)
		} else {
			errs = append(errs, validateStorage(q, resources.Key(string(name)))...)
		}
	}
	if m := s.ModifyVolumeStatus; m != nil && ptr.Deref(s.CurrentVolumeAttributesClassName, "") != "" {
		errs = append(errs, volumespec.ValidateClass(*s.CurrentVolumeAttributesClassName, at.Child("currentVolumeAttributesClassName"))...)
	}
	return errs
}

// validateResized checks what can be resized: the storage, or something of the driver's own.
func validateResized(name corev1.ResourceName, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(name)) {
		errs = append(errs, field.Invalid(at, string(name), msg))
	}
	native := !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
	if len(errs) == 0 && native && name != corev1.ResourceStorage {
		errs = append(errs, field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	return errs
}

func validateStorage(q resource.Quantity, at *field.Path) field.ErrorList {
	if q.Sign() < 0 {
		return field.ErrorList{field.Invalid(at, q.Value(), "must be a valid resource quantity")}
	}
	return nil
}
