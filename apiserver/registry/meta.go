package registry

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// KeepStatus gives obj the status of old: what an ordinary update may not touch.
func KeepStatus(obj, old Object) {
	to, from := reflect.ValueOf(obj).Elem().FieldByName("Status"), reflect.ValueOf(old).Elem().FieldByName("Status")
	if to.IsValid() && from.IsValid() {
		to.Set(from)
	}
}

// KeepAllButStatus gives obj everything of old but its status, labels, annotations and finalizers: what a status update may
// touch. (Labels and annotations may ride along, as with upstream's pods and nodes.)
func KeepAllButStatus(obj, old Object) {
	labels, annotations, finalizers := obj.GetLabels(), obj.GetAnnotations(), obj.GetFinalizers()
	to, from := reflect.ValueOf(obj).Elem(), reflect.ValueOf(old).Elem()
	for i := range to.NumField() {
		if to.Type().Field(i).Name != "Status" {
			to.Field(i).Set(from.Field(i))
		}
	}
	obj.SetLabels(labels)
	obj.SetAnnotations(annotations)
	obj.SetFinalizers(finalizers)
}

// SameSpec says whether two objects differ in metadata and status only.
func SameSpec(a, b Object) bool {
	va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range va.NumField() {
		switch va.Type().Field(i).Name {
		case "TypeMeta", "ObjectMeta", "Status":
			continue
		}
		if !equality.Semantic.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			return false
		}
	}
	return true
}

// Invalid makes errors of the messages that a check of a value returned.
func Invalid(value any, messages []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range messages {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

// ValidateMeta checks the metadata of a new object.
func (r *Resource) ValidateMeta(obj Object) field.ErrorList {
	return apivalidation.ValidateObjectMetaAccessor(obj, r.Namespaced, r.Name, field.NewPath("metadata"))
}

// ValidateMetaUpdate checks what may not change in metadata.
func (r *Resource) ValidateMetaUpdate(obj, old Object) field.ErrorList {
	return apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, field.NewPath("metadata"))
}

// KeepMeta gives obj what the server owns in metadata and a caller may leave out or send stale.
func KeepMeta(obj, old Object) {
	obj.SetSelfLink("")
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	if t := obj.GetCreationTimestamp(); t.IsZero() {
		obj.SetCreationTimestamp(old.GetCreationTimestamp())
	}
	if obj.GetGenerateName() == "" {
		obj.SetGenerateName(old.GetGenerateName())
	}
	obj.SetGeneration(old.GetGeneration())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
}

// ClearMeta takes from a new object's metadata what only the server may set.
func ClearMeta(obj Object) {
	obj.SetResourceVersion("")
	obj.SetSelfLink("")
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetManagedFields(nil)
	obj.SetGeneration(0)
	obj.SetCreationTimestamp(metav1.Now().Rfc3339Copy())
}
