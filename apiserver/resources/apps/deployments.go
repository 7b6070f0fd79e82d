package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// Deployments roll a template out over replica sets.
var Deployments = registry.Define(registry.Kind[*appsv1.Deployment]{
	Group: "apps", Version: "v1", Kind: "Deployment", Plural: "deployments", Short: []string{"deploy"}, Categories: []string{"all"},
	Namespaced: true, Status: true, Generation: true,
	Default:        defaultDeployment,
	BeforeCreate:   func(d *appsv1.Deployment) { d.Status = appsv1.DeploymentStatus{} },
	BeforeUpdate:   bumpGeneration,
	Validate:       validateDeployment,
	ValidateUpdate: validateDeploymentUpdate,
	ValidateStatus: validateDeploymentStatus,
	Warn: func(d, old *appsv1.Deployment) []string {
		if old == nil {
			return warnNew(d.Name, &d.Spec.Template)
		}
		return podspec.WarnTemplate(&d.Spec.Template, &old.Spec.Template, templatePath)
	},
	Scale: &registry.Scale[*appsv1.Deployment]{
		Get: func(d *appsv1.Deployment) autoscalingv1.Scale {
			return autoscalingv1.Scale{
				Spec:   autoscalingv1.ScaleSpec{Replicas: ptr.Deref(d.Spec.Replicas, 0)},
				Status: autoscalingv1.ScaleStatus{Replicas: d.Status.Replicas, Selector: selectorText(d.Spec.Selector)},
			}
		},
		Set: func(d *appsv1.Deployment, n int32) { d.Spec.Replicas = &n },
	},
	Columns: append([]registry.Column[*appsv1.Deployment]{
		{Name: "Ready", Description: "Pods that are ready, of those wanted.", Value: func(d *appsv1.Deployment) any {
			return fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, ptr.Deref(d.Spec.Replicas, 0))
		}},
		{Name: "Up-to-date", Description: "Pods of the newest template.", Value: func(d *appsv1.Deployment) any { return int64(d.Status.UpdatedReplicas) }},
		{Name: "Available", Description: "Pods that have been ready long enough.", Value: func(d *appsv1.Deployment) any { return int64(d.Status.AvailableReplicas) }},
		registry.Age[*appsv1.Deployment](),
	}, templateColumns(func(d *appsv1.Deployment) (*corev1.PodTemplateSpec, *metav1.LabelSelector) {
		return &d.Spec.Template, d.Spec.Selector
	})...),
})

func defaultDeployment(d *appsv1.Deployment) {
	s := &d.Spec
	if s.Replicas == nil {
		s.Replicas = ptr.To[int32](1)
	}
	if s.Strategy.Type == "" {
		s.Strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if s.Strategy.RollingUpdate == nil {
			s.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		r := s.Strategy.RollingUpdate
		if r.MaxUnavailable == nil {
			r.MaxUnavailable = ptr.To(intstr.FromString("25%"))
		}
		if r.MaxSurge == nil {
			r.MaxSurge = ptr.To(intstr.FromString("25%"))
		}
	}
	if s.RevisionHistoryLimit == nil {
		s.RevisionHistoryLimit = ptr.To[int32](10)
	}
	if s.ProgressDeadlineSeconds == nil {
		s.ProgressDeadlineSeconds = ptr.To[int32](600)
	}
	podspec.DefaultTemplate(&s.Template)
}

// bumpGeneration counts changed annotations, too: the controller copies them to replica sets and tells by
// observedGeneration that it has. A changed spec is counted by the write path.
func bumpGeneration(d, old *appsv1.Deployment) {
	if apiequality.Semantic.DeepEqual(d.Spec, old.Spec) && !apiequality.Semantic.DeepEqual(d.Annotations, old.Annotations) {
		d.Generation = old.Generation + 1
	}
}

func selectorText(s *metav1.LabelSelector) string {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	return sel.String()
}
