package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
	"pilothouse.dev/apiserver/resources/volumespec"
)

// terminating is what a column says of a volume or claim that is being deleted.
const terminating = "Terminating"

// PersistentVolumes are storage that outlives the pods that use it.
var PersistentVolumes = registry.Define(registry.Kind[*corev1.PersistentVolume]{
	Version: "v1", Kind: "PersistentVolume", Plural: "persistentvolumes", Short: []string{"pv"},
	ReturnsDeleted: true,
	Status:         true,
	Default: func(v *corev1.PersistentVolume) {
		volumespec.DefaultVolume(&v.Spec)
		orPhase(&v.Status.Phase, corev1.VolumePending)
	},
	BeforeCreate: func(v *corev1.PersistentVolume) {
		v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: ptr.To(metav1.Now().Rfc3339Copy())}
	},
	BeforeStatus: stampPhase,
	Validate: func(v *corev1.PersistentVolume) field.ErrorList {
		return volumespec.ValidateVolume(&v.Spec, field.NewPath("spec"))
	},
	ValidateUpdate: validateVolumeUpdate,
	Warn:           func(v, _ *corev1.PersistentVolume) []string { return warnVolume(v) },
	Columns: []registry.Column[*corev1.PersistentVolume]{
		{Name: "Capacity", Description: "How much it holds.", Value: func(v *corev1.PersistentVolume) any { return storageText(v.Spec.Capacity) }},
		{Name: "Access Modes", Description: "How it can be mounted.", Value: func(v *corev1.PersistentVolume) any { return volumespec.AccessModes(v.Spec.AccessModes) }},
		{Name: "Reclaim Policy", Description: "What becomes of it when its claim goes.", Value: func(v *corev1.PersistentVolume) any { return string(v.Spec.PersistentVolumeReclaimPolicy) }},
		{Name: "Status", Description: "Whether it is free, bound or released.", Value: func(v *corev1.PersistentVolume) any {
			if v.DeletionTimestamp != nil {
				return terminating
			}
			return string(v.Status.Phase)
		}},
		{Name: "Claim", Description: "Who has it.", Value: func(v *corev1.PersistentVolume) any { return claimText(v.Spec.ClaimRef) }},
		{Name: "StorageClass", Description: "The class it belongs to.", Value: func(v *corev1.PersistentVolume) any {
			return classOf(v.Annotations, v.Spec.StorageClassName)
		}},
		{Name: "VolumeAttributesClass", Description: "The class of its attributes.", Value: func(v *corev1.PersistentVolume) any {
			return ptr.Deref(v.Spec.VolumeAttributesClassName, unset)
		}},
		{Name: "Reason", Description: "Why it is in its state.", Value: func(v *corev1.PersistentVolume) any { return v.Status.Reason }},
		registry.Age[*corev1.PersistentVolume](),
		{Name: "VolumeMode", Priority: 1, Description: "Filesystem or Block.", Value: func(v *corev1.PersistentVolume) any {
			return string(ptr.Deref(v.Spec.VolumeMode, unset))
		}},
	},
})

func orPhase[T ~string](phase *T, value T) {
	if *phase == "" {
		*phase = value
	}
}

// stampPhase notes when the phase changed, unless the caller does.
func stampPhase(v, old *corev1.PersistentVolume) {
	s, was := &v.Status, &old.Status
	if s.Phase != was.Phase && (s.LastPhaseTransitionTime == nil || s.LastPhaseTransitionTime.Equal(was.LastPhaseTransitionTime)) {
		s.LastPhaseTransitionTime = ptr.To(metav1.Now().Rfc3339Copy())
	}
}

func storageText(list corev1.ResourceList) string {
	if q, ok := list[corev1.ResourceStorage]; ok {
		return q.String()
	}
	return "0"
}

func claimText(ref *corev1.ObjectReference) string {
	if ref == nil {
		return ""
	}
	return ref.Namespace + "/" + ref.Name
}

// classOf is the storage class of a volume or claim; an annotation named it before the field did, and wins.
func classOf(annotations map[string]string, name string) string {
	if c, ok := annotations[corev1.BetaStorageClassAnnotation]; ok {
		return c
	}
	return name
}

// validateVolumeUpdate keeps what a volume is. Where it can be reached from may be said once, later.
func validateVolumeUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	var errs field.ErrorList
	now, was := &v.Spec, &old.Spec
	if !sameVolume(&now.PersistentVolumeSource, &was.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(was.PersistentVolumeSource, now.PersistentVolumeSource))))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(now.VolumeMode, was.VolumeMode, field.NewPath("volumeMode"))...)
	if was.NodeAffinity != nil && !sameAffinity(now.NodeAffinity, was.NodeAffinity) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "nodeAffinity"), now.NodeAffinity, apivalidation.FieldImmutableErrorMsg))
	}
	if was.VolumeAttributesClassName != nil && now.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

// sameVolume says whether a source is still the old one; the secrets for growing may be added to one that had none.
func sameVolume(s, old *corev1.PersistentVolumeSource) bool {
	if s.CSI != nil && old.CSI != nil {
		with := old.DeepCopy()
		orSecret(&with.CSI.ControllerExpandSecretRef, s.CSI.ControllerExpandSecretRef)
		orSecret(&with.CSI.NodeExpandSecretRef, s.CSI.NodeExpandSecretRef)
		old = with
	}
	return apiequality.Semantic.DeepEqual(s, old)
}

func orSecret(r **corev1.SecretReference, value *corev1.SecretReference) {
	if *r == nil {
		*r = value
	}
}

// newNames are the labels of nodes that replace older ones, also in volumes that are there already.
var newNames = map[string]string{
	corev1.LabelFailureDomainBetaZone:   corev1.LabelTopologyZone,
	corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
	"beta.kubernetes.io/os":             corev1.LabelOSStable,
	"beta.kubernetes.io/arch":           corev1.LabelArchStable,
	corev1.LabelInstanceType:            corev1.LabelInstanceTypeStable,
}

// sameAffinity says whether an affinity is still the old one; labels may be called by their newer names.
func sameAffinity(a, old *corev1.VolumeNodeAffinity) bool {
	if apiequality.Semantic.DeepEqual(a, old) {
		return true
	}
	if a == nil || a.Required == nil || old.Required == nil || len(a.Required.NodeSelectorTerms) != len(old.Required.NodeSelectorTerms) {
		return false
	}
	old = old.DeepCopy()
	for i, t := range a.Required.NodeSelectorTerms {
		was := old.Required.NodeSelectorTerms[i].MatchExpressions
		if len(t.MatchExpressions) != len(was) {
			return false
		}
		for j, r := range t.MatchExpressions {
			if newNames[was[j].Key] == r.Key {
				was[j].Key = r.Key
			}
		}
	}
	return apiequality.Semantic.DeepEqual(a, old)
}

// goneSources are sources that nothing serves any more.
var goneSources = []struct {
	name, why string
	set       func(*corev1.PersistentVolumeSource) bool
}{
	{"photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+", func(s *corev1.PersistentVolumeSource) bool { return s.PhotonPersistentDisk != nil }},
	{"scaleIO", "deprecated in v1.16, non-functional in v1.22+", func(s *corev1.PersistentVolumeSource) bool { return s.ScaleIO != nil }},
	{"storageOS", "deprecated in v1.22, non-functional in v1.25+", func(s *corev1.PersistentVolumeSource) bool { return s.StorageOS != nil }},
	{"glusterfs", "deprecated in v1.25, non-functional in v1.26+", func(s *corev1.PersistentVolumeSource) bool { return s.Glusterfs != nil }},
	{"rbd", "deprecated in v1.28, non-functional in v1.31+", func(s *corev1.PersistentVolumeSource) bool { return s.RBD != nil }},
	{"cephfs", "deprecated in v1.28, non-functional in v1.31+", func(s *corev1.PersistentVolumeSource) bool { return s.CephFS != nil }},
}

func warnVolume(v *corev1.PersistentVolume) []string {
	var out []string
	annotations := field.NewPath("metadata", "annotations")
	if _, old := v.Annotations[corev1.BetaStorageClassAnnotation]; old {
		out = append(out, annotations.Key(corev1.BetaStorageClassAnnotation).String()+`: deprecated since v1.8; use "storageClassName" attribute instead`)
	}
	if _, old := v.Annotations[corev1.MountOptionAnnotation]; old {
		out = append(out, annotations.Key(corev1.MountOptionAnnotation).String()+`: deprecated since v1.31; use "mountOptions" attribute instead`)
	}
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		out = append(out, "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if a := v.Spec.NodeAffinity; a != nil && a.Required != nil {
		out = append(out, podspec.WarnNodeSelector(a.Required, field.NewPath("spec", "nodeAffinity", "required"))...)
	}
	if q, ok := v.Spec.Capacity[corev1.ResourceStorage]; ok && volumespec.Fractional(q) {
		out = append(out, fmt.Sprintf("spec.capacity[storage]: fractional byte value %q is invalid, must be an integer", q.String()))
	}
	for _, s := range goneSources {
		if s.set(&v.Spec.PersistentVolumeSource) {
			out = append(out, "spec."+s.name+": "+s.why)
		}
	}
	return out
}
