package apps

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// ReplicaSets keep a number of equal pods.
var ReplicaSets = registry.Define(registry.Kind[*appsv1.ReplicaSet]{
	Group: "apps", Version: "v1", Kind: "ReplicaSet", Plural: "replicasets", Short: []string{"rs"}, Categories: []string{"all"},
	Namespaced: true, Status: true, Generation: true,
	Default:        defaultReplicaSet,
	BeforeCreate:   func(r *appsv1.ReplicaSet) { r.Status = appsv1.ReplicaSetStatus{} },
	Validate:       validateReplicaSet,
	ValidateUpdate: validateReplicaSetUpdate,
	ValidateStatus: validateReplicaSetStatus,
	Warn: func(r, old *appsv1.ReplicaSet) []string {
		if old == nil {
			return warnNew(r.Name, &r.Spec.Template)
		}
		return podspec.WarnTemplate(&r.Spec.Template, &old.Spec.Template, templatePath)
	},
	Scale: &registry.Scale[*appsv1.ReplicaSet]{
		Get: func(r *appsv1.ReplicaSet) autoscalingv1.Scale {
			return autoscalingv1.Scale{
				Spec:   autoscalingv1.ScaleSpec{Replicas: ptr.Deref(r.Spec.Replicas, 0)},
				Status: autoscalingv1.ScaleStatus{Replicas: r.Status.Replicas, Selector: selectorText(r.Spec.Selector)},
			}
		},
		Set: func(r *appsv1.ReplicaSet, n int32) { r.Spec.Replicas = &n },
	},
	FieldNames: []string{"status.replicas"},
	Fields: func(r *appsv1.ReplicaSet) fields.Set {
		return fields.Set{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
	},
	Columns: append([]registry.Column[*appsv1.ReplicaSet]{
		{Name: "Desired", Type: "integer", Description: "Pods wanted.", Value: func(r *appsv1.ReplicaSet) any { return int64(ptr.Deref(r.Spec.Replicas, 0)) }},
		{Name: "Current", Type: "integer", Description: "Pods there are.", Value: func(r *appsv1.ReplicaSet) any { return int64(r.Status.Replicas) }},
		{Name: "Ready", Type: "integer", Description: "Pods that are ready.", Value: func(r *appsv1.ReplicaSet) any { return int64(r.Status.ReadyReplicas) }},
		registry.Age[*appsv1.ReplicaSet](),
	}, templateColumns(func(r *appsv1.ReplicaSet) (*corev1.PodTemplateSpec, *metav1.LabelSelector) {
		return &r.Spec.Template, r.Spec.Selector
	})...),
})

func defaultReplicaSet(r *appsv1.ReplicaSet) {
	if r.Spec.Replicas == nil {
		r.Spec.Replicas = ptr.To[int32](1)
	}
	podspec.DefaultTemplate(&r.Spec.Template)
}

func validateReplicaSet(r *appsv1.ReplicaSet) field.ErrorList {
	spec := field.NewPath("spec")
	errs := apivalidation.ValidateNonnegativeField(int64(ptr.Deref(r.Spec.Replicas, 0)), spec.Child("replicas"))
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(r.Spec.MinReadySeconds), spec.Child("minReadySeconds"))...)
	errs = append(errs, validateSelector(r.Spec.Selector, "deployment", spec.Child("selector"))...)
	return append(errs, validateTemplate(&r.Spec.Template, r.Spec.Selector, "ReplicaSet", spec.Child("template"))...)
}

func validateReplicaSetUpdate(r, old *appsv1.ReplicaSet) field.ErrorList {
	return apivalidation.ValidateImmutableField(r.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))
}

func validateReplicaSetStatus(r, _ *appsv1.ReplicaSet) field.ErrorList {
	path, s := field.NewPath("status"), &r.Status
	errs := apivalidation.ValidateNonnegativeField(s.ObservedGeneration, path.Child("observedGeneration"))
	errs = append(errs, validateCounts(path, s.Replicas, map[string]int32{
		"fullyLabeledReplicas": s.FullyLabeledReplicas, "readyReplicas": s.ReadyReplicas, "availableReplicas": s.AvailableReplicas,
	})...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	if s.TerminatingReplicas != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*s.TerminatingReplicas), path.Child("terminatingReplicas"))...)
	}
	return errs
}
