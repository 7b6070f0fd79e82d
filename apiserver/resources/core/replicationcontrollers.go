package core

import (
	"maps"
	"strconv"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// ReplicationControllers are the older form of replica sets.
var ReplicationControllers = registry.Define(registry.Kind[*corev1.ReplicationController]{
	Version: "v1", Kind: "ReplicationController", Plural: "replicationcontrollers", Short: []string{"rc"}, Categories: []string{"all"},
	Namespaced: true, Status: true, Generation: true, Orphans: true,
	Default:        defaultReplicationController,
	BeforeCreate:   func(r *corev1.ReplicationController) { r.Status = corev1.ReplicationControllerStatus{} },
	Validate:       validateReplicationController,
	ValidateStatus: validateReplicationControllerStatus,
	Warn: func(r, old *corev1.ReplicationController) []string {
		var out []string
		var was *corev1.PodTemplateSpec
		if old == nil {
			out = podspec.WarnName(r.Name)
		} else {
			was = old.Spec.Template
		}
		if r.Spec.Template == nil {
			return out
		}
		return append(out, podspec.WarnTemplate(r.Spec.Template, was, field.NewPath("spec", "template"))...)
	},
	Scale: &registry.Scale[*corev1.ReplicationController]{
		Get: func(r *corev1.ReplicationController) autoscalingv1.Scale {
			return autoscalingv1.Scale{
				Spec:   autoscalingv1.ScaleSpec{Replicas: ptr.Deref(r.Spec.Replicas, 0)},
				Status: autoscalingv1.ScaleStatus{Replicas: r.Status.Replicas, Selector: labels.SelectorFromSet(r.Spec.Selector).String()},
			}
		},
		Set: func(r *corev1.ReplicationController, n int32) { r.Spec.Replicas = &n },
	},
	FieldNames: []string{"status.replicas"},
	Fields: func(r *corev1.ReplicationController) fields.Set {
		return fields.Set{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
	},
	Columns: append([]registry.Column[*corev1.ReplicationController]{
		{Name: "Desired", Type: "integer", Description: "Pods wanted.", Value: func(r *corev1.ReplicationController) any { return int64(ptr.Deref(r.Spec.Replicas, 0)) }},
		{Name: "Current", Type: "integer", Description: "Pods there are.", Value: func(r *corev1.ReplicationController) any { return int64(r.Status.Replicas) }},
		{Name: "Ready", Type: "integer", Description: "Pods that are ready.", Value: func(r *corev1.ReplicationController) any { return int64(r.Status.ReadyReplicas) }},
		registry.Age[*corev1.ReplicationController](),
	}, podspec.TemplateColumns(1, func(r *corev1.ReplicationController) *corev1.PodTemplateSpec {
		return ptr.To(ptr.Deref(r.Spec.Template, corev1.PodTemplateSpec{}))
	}, func(r *corev1.ReplicationController) string { return podspec.LabelsText(r.Spec.Selector) })...),
})

// defaultReplicationController takes the labels of the template for the selector and its own labels.
func defaultReplicationController(r *corev1.ReplicationController) {
	if t := r.Spec.Template; t != nil {
		podspec.DefaultTemplate(t)
		if len(r.Spec.Selector) == 0 && len(t.Labels) > 0 {
			r.Spec.Selector = maps.Clone(t.Labels)
		}
		if len(r.Labels) == 0 && len(t.Labels) > 0 {
			r.Labels = maps.Clone(t.Labels)
		}
	}
	if r.Spec.Replicas == nil {
		r.Spec.Replicas = ptr.To[int32](1)
	}
}

func validateReplicationController(r *corev1.ReplicationController) field.ErrorList {
	spec, s := field.NewPath("spec"), &r.Spec
	errs := apivalidation.ValidateNonnegativeField(int64(s.MinReadySeconds), spec.Child("minReadySeconds"))
	if len(s.Selector) == 0 {
		errs = append(errs, field.Required(spec.Child("selector"), ""))
	}
	errs = append(errs, metav1validation.ValidateLabels(s.Selector, spec.Child("selector"))...)
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(ptr.Deref(s.Replicas, 0)), spec.Child("replicas"))...)
	t, at := s.Template, spec.Child("template")
	if t == nil {
		return append(errs, field.Required(at, ""))
	}
	if len(s.Selector) > 0 && !labels.SelectorFromSet(s.Selector).Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(t, at)...)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, sets.List(sets.New(corev1.RestartPolicyAlways))))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicationController is not Supported"))
	}
	return errs
}

func validateReplicationControllerStatus(r, _ *corev1.ReplicationController) field.ErrorList {
	path, s := field.NewPath("status"), &r.Status
	var errs field.ErrorList
	for _, n := range []struct {
		name  string
		value int32
	}{{"replicas", s.Replicas}, {"fullyLabeledReplicas", s.FullyLabeledReplicas}, {"readyReplicas", s.ReadyReplicas}, {"availableReplicas", s.AvailableReplicas}} {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(n.value), path.Child(n.name))...)
		if n.value > s.Replicas {
			errs = append(errs, field.Invalid(path.Child(n.name), n.value, "cannot be greater than status.replicas"))
		}
	}
	errs = append(errs, apivalidation.ValidateNonnegativeField(s.ObservedGeneration, path.Child("observedGeneration"))...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}
