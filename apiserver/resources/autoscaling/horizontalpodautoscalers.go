// Package autoscaling declares the kinds of the group autoscaling, a file each. A horizontal pod autoscaler is stored as v2, and
// served as v1, too, by a pair of functions (horizontalpodautoscalers_v1.go).
package autoscaling

import (
	"cmp"
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// HorizontalPodAutoscalers set the number of replicas of something by metrics.
var HorizontalPodAutoscalers = registry.Define(registry.Kind[*autoscalingv2.HorizontalPodAutoscaler]{
	Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler", Plural: "horizontalpodautoscalers",
	Short: []string{"hpa"}, Categories: []string{"all"},
	Namespaced: true, Status: true, Generation: true,
	Default: defaultAutoscaler,
	BeforeCreate: func(h *autoscalingv2.HorizontalPodAutoscaler) {
		dropNotes(h)
		h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
	},
	BeforeUpdate:   func(h, _ *autoscalingv2.HorizontalPodAutoscaler) { dropNotes(h) },
	BeforeStatus:   func(h, _ *autoscalingv2.HorizontalPodAutoscaler) { dropNotes(h) },
	Validate:       validateAutoscaler,
	ValidateStatus: validateAutoscalerStatus,
	Columns:        autoscalerColumns(func(h *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler { return h }),
})

const defaultUtilization = 80 // percent of the CPU that pods ask for

func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	s := &h.Spec
	if s.MinReplicas == nil {
		s.MinReplicas = ptr.To[int32](1)
	}
	if len(s.Metrics) == 0 {
		s.Metrics = []autoscalingv2.MetricSpec{cpuMetric(defaultUtilization)}
	}
	if s.Behavior == nil {
		return
	}
	// A direction of which nothing is said behaves as told here, too: up at once, down with the cluster's own patience.
	s.Behavior.ScaleUp = withDefaults(s.Behavior.ScaleUp, ptr.To[int32](0),
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15})
	s.Behavior.ScaleDown = withDefaults(s.Behavior.ScaleDown, nil,
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15})
}

func withDefaults(r *autoscalingv2.HPAScalingRules, window *int32, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	if r == nil {
		r = &autoscalingv2.HPAScalingRules{}
	}
	if r.SelectPolicy == nil {
		r.SelectPolicy = ptr.To(autoscalingv2.MaxChangePolicySelect)
	}
	if r.StabilizationWindowSeconds == nil {
		r.StabilizationWindowSeconds = window
	}
	if r.Policies == nil {
		r.Policies = policies
	}
	return r
}

// cpuMetric aims at a percentage of the CPU that pods ask for.
func cpuMetric(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{
		Type: autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricSource{
			Name:   corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
		},
	}
}

// autoscalerColumns are the columns in any served version, given how to see one as v2.
func autoscalerColumns[T registry.Object](as func(T) *autoscalingv2.HorizontalPodAutoscaler) []registry.Column[T] {
	return []registry.Column[T]{
		{Name: "Reference", Description: "What it scales.", Value: func(o T) any {
			r := as(o).Spec.ScaleTargetRef
			return r.Kind + "/" + r.Name
		}},
		{Name: "Targets", Description: "What is measured, and what it should be.", Value: func(o T) any {
			h := as(o)
			return targets(h.Spec.Metrics, h.Status.CurrentMetrics)
		}},
		{Name: "MinPods", Description: "The fewest replicas.", Value: func(o T) any {
			if n := as(o).Spec.MinReplicas; n != nil {
				return fmt.Sprint(*n)
			}
			return "<unset>"
		}},
		{Name: "MaxPods", Type: "integer", Description: "The most replicas.", Value: func(o T) any { return int64(as(o).Spec.MaxReplicas) }},
		{Name: "Replicas", Type: "integer", Description: "Replicas there are.", Value: func(o T) any { return int64(as(o).Status.CurrentReplicas) }},
		registry.Age[T](),
	}
}

const shown = 2 // metrics in a column

func targets(specs []autoscalingv2.MetricSpec, statuses []autoscalingv2.MetricStatus) string {
	if len(specs) == 0 {
		return "<none>"
	}
	all := make([]string, len(specs))
	for i := range specs {
		var status autoscalingv2.MetricStatus
		if i < len(statuses) {
			status = statuses[i]
		}
		all[i] = target(&specs[i], &status)
	}
	if len(all) > shown {
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:shown], ", "), len(all)-shown)
	}
	return strings.Join(all, ", ")
}

// target renders one metric: what it is, unless it is clear, and what it should be.
func target(m *autoscalingv2.MetricSpec, s *autoscalingv2.MetricStatus) string {
	var now autoscalingv2.MetricValueStatus
	switch {
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		if s.External != nil {
			now = s.External.Current
		}
		return valueOrAverage(&m.External.Target, &now)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		if s.Object != nil {
			now = s.Object.Current
		}
		return valueOrAverage(&m.Object.Target, &now)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		if s.Pods != nil {
			now = s.Pods.Current
		}
		return quantity(now.AverageValue) + "/" + quantity(m.Pods.Target.AverageValue)
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		if s.Resource != nil {
			now = s.Resource.Current
		}
		return string(m.Resource.Name) + ": " + averageOrShare(&m.Resource.Target, &now)
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		if s.ContainerResource != nil {
			now = s.ContainerResource.Current
		}
		return string(m.ContainerResource.Name) + ": " + averageOrShare(&m.ContainerResource.Target, &now)
	}
	return "<unknown type>"
}

func valueOrAverage(want *autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) string {
	if want.AverageValue != nil {
		return quantity(now.AverageValue) + "/" + want.AverageValue.String() + " (avg)"
	}
	return quantity(now.Value) + "/" + quantity(want.Value)
}

func averageOrShare(want *autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) string {
	if want.AverageValue != nil {
		return quantity(now.AverageValue) + "/" + want.AverageValue.String()
	}
	return share(now.AverageUtilization, "<unknown>") + "/" + share(want.AverageUtilization, "<auto>")
}

func quantity(q *resource.Quantity) string {
	if q == nil {
		return "<unknown>"
	}
	return cmp.Or(q.String(), "0")
}

func share(percent *int32, otherwise string) string {
	if percent == nil {
		return otherwise
	}
	return fmt.Sprintf("%d%%", *percent)
}
