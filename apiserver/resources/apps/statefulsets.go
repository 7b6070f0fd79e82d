package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// StatefulSets keep a number of pods that each have a name and storage of their own.
var StatefulSets = registry.Define(registry.Kind[*appsv1.StatefulSet]{
	Group: "apps", Version: "v1", Kind: "StatefulSet", Plural: "statefulsets", Short: []string{"sts"}, Categories: []string{"all"},
	Namespaced: true, Status: true, Generation: true,
	Name:           apivalidation.NameIsDNSLabel, // pods are named after it, and their hosts
	Default:        defaultStatefulSet,
	OnRead:         nameClaims,
	BeforeCreate:   func(s *appsv1.StatefulSet) { s.Status = appsv1.StatefulSetStatus{} },
	Validate:       validateStatefulSet,
	ValidateUpdate: validateStatefulSetUpdate,
	ValidateStatus: validateStatefulSetStatus,
	Warn:           warnStatefulSet,
	Scale: &registry.Scale[*appsv1.StatefulSet]{
		Get: func(s *appsv1.StatefulSet) autoscalingv1.Scale {
			return autoscalingv1.Scale{
				Spec:   autoscalingv1.ScaleSpec{Replicas: ptr.Deref(s.Spec.Replicas, 0)},
				Status: autoscalingv1.ScaleStatus{Replicas: s.Status.Replicas, Selector: selectorText(s.Spec.Selector)},
			}
		},
		Set: func(s *appsv1.StatefulSet, n int32) { s.Spec.Replicas = &n },
	},
	Columns: append([]registry.Column[*appsv1.StatefulSet]{
		{Name: "Ready", Description: "Pods that are ready, of those wanted.", Value: func(s *appsv1.StatefulSet) any {
			return fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, ptr.Deref(s.Spec.Replicas, 0))
		}},
		registry.Age[*appsv1.StatefulSet](),
	}, podspec.TemplateColumns(1, func(s *appsv1.StatefulSet) *corev1.PodTemplateSpec { return &s.Spec.Template }, nil)...),
})

func defaultStatefulSet(set *appsv1.StatefulSet) {
	s := &set.Spec
	if s.PodManagementPolicy == "" {
		s.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	if s.UpdateStrategy.Type == "" {
		s.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
	}
	if s.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		if s.UpdateStrategy.RollingUpdate == nil {
			s.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
		}
		r := s.UpdateStrategy.RollingUpdate
		if r.Partition == nil {
			r.Partition = ptr.To[int32](0)
		}
		if r.MaxUnavailable == nil {
			r.MaxUnavailable = ptr.To(intstr.FromInt32(1))
		}
	}
	if s.PersistentVolumeClaimRetentionPolicy == nil {
		s.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	}
	keep := s.PersistentVolumeClaimRetentionPolicy
	if keep.WhenDeleted == "" {
		keep.WhenDeleted = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	if keep.WhenScaled == "" {
		keep.WhenScaled = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	if s.Replicas == nil {
		s.Replicas = ptr.To[int32](1)
	}
	if s.RevisionHistoryLimit == nil {
		s.RevisionHistoryLimit = ptr.To[int32](10)
	}
	podspec.DefaultTemplate(&s.Template)
	nameClaims(set)
	for i := range s.VolumeClaimTemplates {
		c := &s.VolumeClaimTemplates[i]
		podspec.DefaultClaimSpec(&c.Spec)
		if c.Status.Phase == "" {
			c.Status.Phase = corev1.ClaimPending
		}
	}
}

// nameClaims says of the claims what they are, which protobuf does not store.
func nameClaims(set *appsv1.StatefulSet) {
	for i := range set.Spec.VolumeClaimTemplates {
		set.Spec.VolumeClaimTemplates[i].TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
	}
}

func warnStatefulSet(set, old *appsv1.StatefulSet) []string {
	var was *corev1.PodTemplateSpec
	if old != nil {
		was = &old.Spec.Template
	}
	out := podspec.WarnTemplate(&set.Spec.Template, was, templatePath)
	for i := range set.Spec.VolumeClaimTemplates {
		if old != nil {
			break // they do not change
		}
		q, ok := set.Spec.VolumeClaimTemplates[i].Spec.Resources.Requests[corev1.ResourceStorage]
		if ok && q.MilliValue()%1000 != 0 {
			out = append(out, fmt.Sprintf("spec.volumeClaimTemplates[%d].spec.resources.requests[storage]: fractional byte value %q is invalid, must be an integer", i, q.String()))
		}
	}
	if n := set.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		out = append(out, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return out
}
