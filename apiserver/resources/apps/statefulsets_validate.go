package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/resources/podspec"
)

var retentions = sets.New(appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType)

func validateStatefulSet(set *appsv1.StatefulSet) field.ErrorList {
	spec, s := field.NewPath("spec"), &set.Spec
	var errs field.ErrorList
	switch s.PodManagementPolicy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	case "":
		errs = append(errs, field.Required(spec.Child("podManagementPolicy"), ""))
	default:
		errs = append(errs, field.Invalid(spec.Child("podManagementPolicy"), s.PodManagementPolicy,
			fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement)))
	}
	errs = append(errs, validateStatefulStrategy(&s.UpdateStrategy, spec.Child("updateStrategy"))...)
	if keep := s.PersistentVolumeClaimRetentionPolicy; keep != nil {
		at := spec.Child("persistentVolumeClaimRetentionPolicy")
		if !retentions.Has(keep.WhenDeleted) {
			errs = append(errs, field.NotSupported(at.Child("whenDeleted"), keep.WhenDeleted, sets.List(retentions)))
		}
		if !retentions.Has(keep.WhenScaled) {
			errs = append(errs, field.NotSupported(at.Child("whenScaled"), keep.WhenScaled, sets.List(retentions)))
		}
	}
	errs = append(errs, atLeast(spec, number{"replicas", int64(ptr.Deref(s.Replicas, 0))}, number{"minReadySeconds", int64(s.MinReadySeconds)})...)
	if s.Ordinals != nil {
		errs = append(errs, atLeast(spec, number{"ordinals.start", int64(s.Ordinals.Start)})...)
	}
	errs = append(errs, validateSelector(s.Selector, "statefulset", spec.Child("selector"))...)
	return append(errs, validateStatefulTemplate(set, spec)...)
}

func validateStatefulStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	rolling := path.Child("rollingUpdate")
	switch s.Type {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(rolling, s.RollingUpdate, fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
	default:
		return field.ErrorList{field.Invalid(path, s, fmt.Sprintf("must be '%s' or '%s'", appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
	}
	if s.RollingUpdate == nil {
		return nil
	}
	errs := atLeast(rolling, number{"partition", int64(ptr.Deref(s.RollingUpdate.Partition, 0))})
	if down := s.RollingUpdate.MaxUnavailable; down != nil {
		at := rolling.Child("maxUnavailable")
		errs = append(errs, validateCountOrShare(*down, at)...)
		if amount(*down) == 0 {
			errs = append(errs, field.Invalid(at, *down, "cannot be 0"))
		}
		errs = append(errs, validateNotAboveAll(*down, at)...)
	}
	return errs
}

// validateStatefulTemplate checks the template as its pods will be: with a volume for each claim.
func validateStatefulTemplate(set *appsv1.StatefulSet, spec *field.Path) field.ErrorList {
	path, s := spec.Child("template"), &set.Spec
	t, claimed := s.Template, sets.New[string]()
	var volumes []corev1.Volume
	var errs field.ErrorList
	for i := range s.VolumeClaimTemplates {
		c, at := &s.VolumeClaimTemplates[i], spec.Child("volumeClaimTemplates").Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("metadata", "name"), ""))
		}
		for _, msg := range validation.IsDNS1123Label(c.Name) {
			if c.Name != "" {
				errs = append(errs, field.Invalid(at.Child("metadata", "name"), c.Name, msg))
			}
		}
		errs = append(errs, podspec.ValidateClaimSpec(&c.Spec, at.Child("spec"))...)
		claimed.Insert(c.Name)
	}
	for _, v := range t.Spec.Volumes {
		if !claimed.Has(v.Name) {
			volumes = append(volumes, v)
		}
	}
	for _, name := range sets.List(claimed) {
		if len(validation.IsDNS1123Label(name)) == 0 {
			source := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
			volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: source})
		}
	}
	t.Spec.Volumes = volumes
	return append(errs, validateTemplate(&t, s.Selector, "StatefulSet", path)...)
}

// validateStatefulSetUpdate lets change what the controller can follow: nothing that pods and claims are named by.
func validateStatefulSetUpdate(set, old *appsv1.StatefulSet) field.ErrorList {
	rest := set.Spec
	rest.Replicas = old.Spec.Replicas
	rest.Ordinals = old.Spec.Ordinals
	rest.Template = old.Spec.Template
	rest.UpdateStrategy = old.Spec.UpdateStrategy
	rest.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	rest.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	rest.MinReadySeconds = old.Spec.MinReadySeconds
	if apiequality.Semantic.DeepEqual(rest, old.Spec) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec"), "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "+
		"'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden")}
}

func validateStatefulSetStatus(set, old *appsv1.StatefulSet) field.ErrorList {
	path, s := field.NewPath("status"), &set.Status
	errs := validateCounts(path, s.Replicas, map[string]int32{
		"readyReplicas": s.ReadyReplicas, "currentReplicas": s.CurrentReplicas, "updatedReplicas": s.UpdatedReplicas, "availableReplicas": s.AvailableReplicas,
	})
	errs = append(errs, atLeast(path, number{"observedGeneration", s.ObservedGeneration}, number{"collisionCount", int64(ptr.Deref(s.CollisionCount, 0))})...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than status.readyReplicas"))
	}
	return append(errs, notDecremented(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}
