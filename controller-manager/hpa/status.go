package hpa

import (
	"errors"
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Labels of the metrics.
const (
	actionUp   = "scale_up"
	actionDown = "scale_down"
	actionNone = "none"

	problemSpec     = "spec"
	problemInternal = "internal"
	problemNone     = "none"
)

// outcome is what one look comes to.
type outcome struct {
	now       time.Time
	status    autoscalingv2.HorizontalPodAutoscalerStatus
	proposals []proposal // one a metric, when they were asked
	replicas  int32      // what the target should have
	rescale   bool       // and has not
	why       string
	events    []event
	action    string
	problem   string
}

type event struct{ kind, reason, message string }

func (o *outcome) event(kind, reason, message string) {
	o.events = append(o.events, event{kind, reason, message})
}

// lost tells that the scale could not be read.
func (o *outcome) lost(err error) {
	o.event(corev1.EventTypeWarning, "FailedGetScale", err.Error())
	o.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", err))
	o.problem = problemInternal
	var bad badReference
	if errors.As(err, &bad) {
		o.problem = problemSpec
	}
}

// rescaled tells that the target was given its new number.
func (o *outcome) rescaled(l *look) {
	l.past.did(l.scale.spec, o.replicas, l.now)
	o.status.LastScaleTime = new(metav1.NewTime(l.now))
	o.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", o.replicas))
	o.setCondition(scaledToZero(l.now, o.replicas == 0))
	o.event(corev1.EventTypeNormal, "SuccessfulRescale", fmt.Sprintf("New size: %d; reason: %s", o.replicas, o.why))
}

// notRescaled tells that it was not.
func (o *outcome) notRescaled(l *look, err error) {
	o.event(corev1.EventTypeWarning, "FailedRescale", fmt.Sprintf("New size: %d; reason: %s; error: %v", o.replicas, o.why, err))
	o.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedUpdateScale", fmt.Sprintf("the HPA controller was unable to update the target scale: %v", err))
	o.status.DesiredReplicas = l.hpa.Status.DesiredReplicas
	o.action, o.problem = actionNone, problemInternal
}

func (o *outcome) limited(by [2]string) {
	status := corev1.ConditionTrue
	if by == free {
		status = corev1.ConditionFalse
	}
	o.condition(autoscalingv2.ScalingLimited, status, by[0], by[1])
}

func (o *outcome) condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, message string) {
	o.setCondition(autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(o.now)})
}

func (o *outcome) setCondition(c autoscalingv2.HorizontalPodAutoscalerCondition) {
	o.status.Conditions = withCondition(o.status.Conditions, c)
}

// withCondition sets one in place, or appends it; the time moves only with the status.
func withCondition(all []autoscalingv2.HorizontalPodAutoscalerCondition, c autoscalingv2.HorizontalPodAutoscalerCondition) []autoscalingv2.HorizontalPodAutoscalerCondition {
	for i := range all {
		if all[i].Type == c.Type {
			if all[i].Status == c.Status {
				c.LastTransitionTime = all[i].LastTransitionTime
			}
			all[i] = c
			return all
		}
	}
	return append(all, c)
}

// scaledToZero is the condition that brings a target back from zero.
func scaledToZero(now time.Time, did bool) autoscalingv2.HorizontalPodAutoscalerCondition {
	c := autoscalingv2.HorizontalPodAutoscalerCondition{Type: autoscalingv2.ScaledToZero, Status: corev1.ConditionFalse, Reason: "NotScaledToZero",
		Message: "the HPA controller did not scale the workload to zero", LastTransitionTime: metav1.NewTime(now)}
	if did {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "ScaledToZero", "the HPA controller scaled the workload to zero"
	}
	return c
}

func parseSelector(text string) (labels.Selector, *refusal) {
	if text == "" {
		return nil, &refusal{"SelectorRequired", "InvalidSelector", "selector is required", "the HPA target's scale is missing a selector"}
	}
	s, err := labels.Parse(text)
	if err != nil {
		message := fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err)
		return nil, &refusal{"InvalidSelector", "InvalidSelector", message, message}
	}
	return s, nil
}

// proposal is what one metric comes to.
type proposal struct {
	replicas int32
	name     string // of the metric, for people
	status   autoscalingv2.MetricStatus
	err      error // why it proposes nothing, as all metrics together tell it
	short    error // and as the metric itself does
	reason   string
	spec     bool // the error is the spec's
}

// propose reckons with one metric and its reading.
func (l *look) propose(spec *autoscalingv2.MetricSpec, r reading) proposal {
	var p proposal
	var blame string
	m := measured{current: l.scale.spec, pods: l.pods, samples: r.pods, within: l.tolerance(), cfg: l.cfg, now: l.now}
	err := r.err
	switch {
	case spec.Type == autoscalingv2.ResourceMetricSourceType && spec.Resource != nil:
		s := spec.Resource
		p.reason, blame = "FailedGetResourceMetric", fmt.Sprintf("failed to get %s resource metric value: ", s.Name)
		m.resource = string(s.Name)
		var now autoscalingv2.MetricValueStatus
		p.replicas, now, p.name, err = m.ofResource(s.Target, "resource utilization (percentage of request)", err)
		p.status.Resource = &autoscalingv2.ResourceMetricStatus{Name: s.Name, Current: now}
	case spec.Type == autoscalingv2.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		s := spec.ContainerResource
		p.reason, blame = "FailedGetContainerResourceMetric", fmt.Sprintf("failed to get %s container metric value: ", s.Container)
		m.resource, m.container = string(s.Name), s.Container
		var now autoscalingv2.MetricValueStatus
		p.replicas, now, p.name, err = m.ofResource(s.Target, "container resource utilization (percentage of request)", err)
		p.status.ContainerResource = &autoscalingv2.ContainerResourceMetricStatus{Name: s.Name, Container: s.Container, Current: now}
	case spec.Type == autoscalingv2.PodsMetricSourceType && spec.Pods != nil:
		s := spec.Pods
		p.reason, blame, p.name = "FailedGetPodsMetric", "failed to get pods metric value: ", "pods metric "+s.Metric.Name
		var average int64
		if err == nil && s.Target.AverageValue == nil {
			err = errors.New("invalid pods metric source: no average value target was set")
		}
		if err == nil {
			p.replicas, average, err = m.average(s.Target.AverageValue.MilliValue())
		}
		p.status.Pods = &autoscalingv2.PodsMetricStatus{Metric: s.Metric, Current: autoscalingv2.MetricValueStatus{AverageValue: milli(average)}}
	case spec.Type == autoscalingv2.ObjectMetricSourceType && spec.Object != nil:
		s := spec.Object
		p.reason, blame = "FailedGetObjectMetric", "failed to get object metric value: "
		p.name = fmt.Sprintf("%s metric %s", s.DescribedObject.Kind, s.Metric.Name)
		var now autoscalingv2.MetricValueStatus
		p.replicas, now, err = l.ofWhole(m, "object", s.Target, r.value, err)
		if s.Target.AverageValue != nil {
			p.name = fmt.Sprintf("external metric %s(%+v)", s.Metric.Name, s.Metric.Selector)
		}
		p.status.Object = &autoscalingv2.ObjectMetricStatus{DescribedObject: s.DescribedObject, Metric: s.Metric, Current: now}
	case spec.Type == autoscalingv2.ExternalMetricSourceType && spec.External != nil:
		s := spec.External
		p.reason, blame = "FailedGetExternalMetric", fmt.Sprintf("failed to get %s external metric value: ", s.Metric.Name)
		p.name = fmt.Sprintf("external metric %s(%+v)", s.Metric.Name, s.Metric.Selector)
		var now autoscalingv2.MetricValueStatus
		p.replicas, now, err = l.ofWhole(m, "external", s.Target, r.value, err)
		p.status.External = &autoscalingv2.ExternalMetricStatus{Metric: s.Metric, Current: now}
	default:
		p.reason, p.spec = "InvalidMetricSourceType", true
		if err == nil {
			err = fmt.Errorf("unknown metric source type %q", spec.Type)
		}
	}
	if err != nil {
		return proposal{reason: p.reason, short: err, err: fmt.Errorf("%s%w", blame, err), spec: p.spec || r.spec}
	}
	p.status.Type = spec.Type
	return p
}

// ofResource reckons with a resource, by value or by share of what is requested.
func (m measured) ofResource(t autoscalingv2.MetricTarget, by string, err error) (replicas int32, now autoscalingv2.MetricValueStatus, name string, _ error) {
	var average int64
	switch {
	case t.AverageValue != nil:
		if err == nil {
			replicas, average, err = m.average(t.AverageValue.MilliValue())
		}
		if err != nil {
			return 0, now, "", fmt.Errorf("failed to get %s usage: %w", m.resource, err)
		}
		now.AverageValue = milli(average)
		return replicas, now, m.resource + " resource", nil
	case t.AverageUtilization != nil:
		var share int32
		if err == nil {
			replicas, share, average, err = m.utilization(*t.AverageUtilization)
		}
		if err != nil {
			return 0, now, "", fmt.Errorf("failed to get %s utilization: %w", m.resource, err)
		}
		now.AverageValue, now.AverageUtilization = milli(average), &share
		return replicas, now, m.resource + " " + by, nil
	}
	return 0, now, "", errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
}

// ofWhole reckons with a metric of something as a whole, by value or by value for each replica.
func (l *look) ofWhole(m measured, what string, t autoscalingv2.MetricTarget, value int64, err error) (replicas int32, now autoscalingv2.MetricValueStatus, _ error) {
	switch {
	case err != nil:
		return 0, now, err
	case t.AverageValue != nil:
		var each int64
		replicas, each = perPod(l.scale.status, value, t.AverageValue.MilliValue(), m.within)
		now.AverageValue = milli(each)
		return replicas, now, nil
	case t.Value != nil:
		replicas, err = m.total(value, t.Value.MilliValue())
		now.Value = milli(value)
		return replicas, now, err
	}
	return 0, now, fmt.Errorf("invalid %s metric source: neither a value target nor an average value target was set", what)
}

// tolerance is the autoscaler's own where it has one.
func (l *look) tolerance() tolerance {
	t := tolerance{l.cfg.Tolerance, l.cfg.Tolerance}
	if b := l.hpa.Spec.Behavior; b != nil {
		if b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
			t.down = b.ScaleDown.Tolerance.AsApproximateFloat64()
		}
		if b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
			t.up = b.ScaleUp.Tolerance.AsApproximateFloat64()
		}
	}
	return t
}

func milli(v int64) *resource.Quantity { return resource.NewMilliQuantity(v, resource.DecimalSI) }
