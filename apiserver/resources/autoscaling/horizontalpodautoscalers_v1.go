package autoscaling

import (
	"encoding/json"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// What v1 has no field for it keeps in annotations, as JSON. In v2 they mean nothing and are dropped.
// https://kubernetes.io/docs/reference/labels-annotations-taints/
const (
	noteMetrics    = "autoscaling.alpha.kubernetes.io/metrics"
	noteBehavior   = "autoscaling.alpha.kubernetes.io/behavior"
	noteConditions = "autoscaling.alpha.kubernetes.io/conditions"
	noteCurrent    = "autoscaling.alpha.kubernetes.io/current-metrics"
)

// HorizontalPodAutoscalersV1 are HorizontalPodAutoscalers that know one metric, the CPU.
var HorizontalPodAutoscalersV1 = registry.DefineVersion(registry.Version[*autoscalingv1.HorizontalPodAutoscaler, *autoscalingv2.HorizontalPodAutoscaler]{
	Group: "autoscaling", Version: "v1", Kind: "HorizontalPodAutoscaler", Plural: "horizontalpodautoscalers",
	Short: []string{"hpa"}, Categories: []string{"all"},
	Of:       HorizontalPodAutoscalers,
	To:       toV1,
	From:     fromV1,
	Validate: validateNotes,
	Columns:  autoscalerColumns(fromV1),
})

func dropNotes(h *autoscalingv2.HorizontalPodAutoscaler) { h.Annotations = withoutNotes(h.Annotations) }

func withoutNotes(all map[string]string) map[string]string {
	out := maps.Clone(all)
	for _, key := range []string{noteMetrics, noteBehavior, noteConditions, noteCurrent} {
		delete(out, key)
	}
	return out
}

func toV1(h *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv1.HorizontalPodAutoscaler {
	h = h.DeepCopy()
	out := &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: h.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(h.Spec.ScaleTargetRef),
			MinReplicas:    h.Spec.MinReplicas,
			MaxReplicas:    h.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: h.Status.ObservedGeneration,
			LastScaleTime:      h.Status.LastScaleTime,
			CurrentReplicas:    h.Status.CurrentReplicas,
			DesiredReplicas:    h.Status.DesiredReplicas,
		},
	}
	dropNotes(h)
	out.Annotations = h.Annotations
	if cpu := share1(h.Spec.Metrics); cpu != nil {
		out.Spec.TargetCPUUtilizationPercentage = cpu
	}
	metrics := h.Spec.Metrics
	if n := len(metrics); n > 0 && isShare(&metrics[n-1]) && share1(metrics[:n-1]) == nil {
		metrics = metrics[:n-1] // the field says it all
	}
	note(out, noteMetrics, len(metrics) > 0, func() any { return each(metrics, metricToV1, metricFromV1) })
	note(out, noteBehavior, h.Spec.Behavior != nil, func() any { return h.Spec.Behavior })
	note(out, noteConditions, len(h.Status.Conditions) > 0, func() any { return h.Status.Conditions })
	current := h.Status.CurrentMetrics
	out.Status.CurrentCPUUtilizationPercentage = currentShare(current)
	if len(current) == 1 && out.Status.CurrentCPUUtilizationPercentage != nil && current[0].Resource.Current.AverageValue == nil && current[0].Resource.Current.Value == nil {
		current = nil
	}
	note(out, noteCurrent, len(current) > 0, func() any { return each(current, statusToV1, statusFromV1) })
	return out
}

// note keeps something in an annotation. What it keeps are API types, which always have a JSON form.
func note(h *autoscalingv1.HorizontalPodAutoscaler, key string, there bool, what func() any) {
	if !there {
		return
	}
	text, err := json.Marshal(what())
	if err != nil {
		panic(err)
	}
	if h.Annotations == nil {
		h.Annotations = map[string]string{}
	}
	h.Annotations[key] = string(text)
}

// isShare says whether a metric is what v1 has a field for.
func isShare(m *autoscalingv2.MetricSpec) bool {
	if m.Type != autoscalingv2.ResourceMetricSourceType || m.Resource == nil || m.Resource.Name != corev1.ResourceCPU {
		return false
	}
	t := m.Resource.Target
	return t.Type == autoscalingv2.UtilizationMetricType && t.AverageUtilization != nil && t.AverageValue == nil && t.Value == nil &&
		m.Object == nil && m.Pods == nil && m.ContainerResource == nil && m.External == nil
}

// share1 is the first share of the CPU that is aimed at.
func share1(metrics []autoscalingv2.MetricSpec) *int32 {
	for i := range metrics {
		if isShare(&metrics[i]) {
			return metrics[i].Resource.Target.AverageUtilization
		}
	}
	return nil
}

// currentShare is the first share of the CPU that was measured.
func currentShare(metrics []autoscalingv2.MetricStatus) *int32 {
	for i := range metrics {
		if isCPU(&metrics[i]) {
			return metrics[i].Resource.Current.AverageUtilization
		}
	}
	return nil
}

func isCPU(m *autoscalingv2.MetricStatus) bool {
	return m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Current.AverageUtilization != nil
}

// fromV1 reads what the annotations keep; what cannot be read counts as not said (validateNotes has refused it before).
func fromV1(h *autoscalingv1.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
	h = h.DeepCopy()
	kept, _ := readNotes(h.Annotations)
	out := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: h.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(h.Spec.ScaleTargetRef),
			MinReplicas:    h.Spec.MinReplicas,
			MaxReplicas:    h.Spec.MaxReplicas,
			Metrics:        kept.metrics,
			Behavior:       kept.behavior,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: h.Status.ObservedGeneration,
			LastScaleTime:      h.Status.LastScaleTime,
			CurrentReplicas:    h.Status.CurrentReplicas,
			DesiredReplicas:    h.Status.DesiredReplicas,
			CurrentMetrics:     kept.current,
			Conditions:         kept.conditions,
		},
	}
	dropNotes(out)
	// The fields win over what the annotations say of the same.
	if cpu := h.Spec.TargetCPUUtilizationPercentage; cpu != nil {
		if was := share1(out.Spec.Metrics); was != nil {
			*was = *cpu
		} else {
			out.Spec.Metrics = append(out.Spec.Metrics, cpuMetric(*cpu))
		}
	}
	if cpu := h.Status.CurrentCPUUtilizationPercentage; cpu != nil {
		if was := currentShare(out.Status.CurrentMetrics); was != nil {
			*was = *cpu
		} else {
			out.Status.CurrentMetrics = append(out.Status.CurrentMetrics, autoscalingv2.MetricStatus{
				Type: autoscalingv2.ResourceMetricSourceType,
				Resource: &autoscalingv2.ResourceMetricStatus{
					Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: cpu},
				},
			})
		}
	}
	return out
}

// notes are what the annotations keep.
type notes struct {
	metrics    []autoscalingv2.MetricSpec
	behavior   *autoscalingv2.HorizontalPodAutoscalerBehavior
	conditions []autoscalingv2.HorizontalPodAutoscalerCondition
	current    []autoscalingv2.MetricStatus
}

// readNotes reads the annotations; the errors say which could not be read.
func readNotes(annotations map[string]string) (notes, field.ErrorList) {
	var out notes
	var errs field.ErrorList
	read := func(key string, parse func([]byte) error) {
		text, ok := annotations[key]
		if !ok {
			return
		}
		if err := parse([]byte(text)); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations").Key(key), text, err.Error()))
		}
	}
	read(noteMetrics, func(text []byte) (err error) {
		out.metrics, err = parseEach(text, metricFromV1)
		return err
	})
	read(noteBehavior, func(text []byte) error { return json.Unmarshal(text, &out.behavior) })
	read(noteConditions, func(text []byte) error { return json.Unmarshal(text, &out.conditions) })
	read(noteCurrent, func(text []byte) (err error) {
		out.current, err = parseEach(text, statusFromV1)
		return err
	})
	return out, errs
}

func validateNotes(h, _ *autoscalingv1.HorizontalPodAutoscaler) field.ErrorList {
	_, errs := readNotes(h.Annotations)
	return errs
}
