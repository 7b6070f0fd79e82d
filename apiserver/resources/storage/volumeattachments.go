package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/volumespec"
)

const longestMessage = 1024

// VolumeAttachments ask that a volume be attached to a node.
var VolumeAttachments = registry.Define(registry.Kind[*storagev1.VolumeAttachment]{
	Group: group, Version: "v1", Kind: "VolumeAttachment", Plural: "volumeattachments",
	ReturnsDeleted: true,
	Status:         true,
	Default: func(a *storagev1.VolumeAttachment) {
		if s := a.Spec.Source.InlineVolumeSpec; s != nil {
			volumespec.DefaultVolume(s)
		}
	},
	BeforeCreate: func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} },
	Validate:     validateAttachment,
	ValidateUpdate: func(a, old *storagev1.VolumeAttachment) field.ErrorList {
		return apivalidation.ValidateImmutableField(a.Spec, old.Spec, field.NewPath("spec"))
	},
	ValidateStatus: validateAttachmentStatus,
	Columns: []registry.Column[*storagev1.VolumeAttachment]{
		{Name: "Attacher", Description: "Who attaches it.", Value: func(a *storagev1.VolumeAttachment) any { return a.Spec.Attacher }},
		{Name: "PV", Description: "The volume.", Value: func(a *storagev1.VolumeAttachment) any { return ptr.Deref(a.Spec.Source.PersistentVolumeName, "") }},
		{Name: "Node", Description: "The node it is to be attached to.", Value: func(a *storagev1.VolumeAttachment) any { return a.Spec.NodeName }},
		{Name: "Attached", Type: "boolean", Description: "Whether it is.", Value: func(a *storagev1.VolumeAttachment) any { return a.Status.Attached }},
		registry.Age[*storagev1.VolumeAttachment](),
	},
})

func validateAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	at, s := field.NewPath("spec"), &a.Spec
	errs := volumespec.ValidateDriver(s.Attacher, at.Child("attacher"))
	source := at.Child("source")
	name, inline := s.Source.PersistentVolumeName, s.Source.InlineVolumeSpec
	switch {
	case name == nil && inline == nil:
		errs = append(errs, field.Required(source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case name != nil && inline != nil:
		errs = append(errs, field.Forbidden(source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case inline != nil:
		errs = append(errs, volumespec.ValidateInlineVolume(inline, source.Child("inlineVolumeSpec"))...)
	case *name == "":
		errs = append(errs, field.Required(source.Child("persistentVolumeName"), "must specify non empty persistentVolumeName"))
	default:
		errs = append(errs, registry.Invalid(*name, validation.IsDNS1123Subdomain(*name), source.Child("persistentVolumeName"))...)
	}
	return append(errs, registry.Invalid(s.NodeName, validation.IsDNS1123Subdomain(s.NodeName), at.Child("nodeName"))...)
}

func validateAttachmentStatus(a, _ *storagev1.VolumeAttachment) field.ErrorList {
	at, s := field.NewPath("status"), &a.Status
	errs := validateText(s.AttachmentMetadata, at.Child("attachmentMetadata"))
	for _, e := range []struct {
		name string
		err  *storagev1.VolumeError
	}{{"attachError", s.AttachError}, {"detachError", s.DetachError}} {
		if e.err != nil && len(e.err.Message) > longestMessage {
			errs = append(errs, field.TooLong(at.Child(e.name, "message"), e.err.Message, longestMessage))
		}
	}
	return errs
}
