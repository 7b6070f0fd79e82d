package hpa

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/controller-manager/loop"
)

func scaler(low, high int32, metrics ...autoscalingv2.MetricSpec) *autoscalingv2.HorizontalPodAutoscaler {
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u", Generation: 3}}
	h.Spec = autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: &low, MaxReplicas: high, Metrics: metrics,
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}}
	return h
}

func cpu(target int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu",
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target}}}
}

// queue aims at 10 of something outside for each replica, or as a whole.
func queue(each bool) autoscalingv2.MetricSpec {
	ten := resource.MustParse("10")
	m := &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "queue"}}
	if m.Target = (autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: &ten}); each {
		m.Target = autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &ten}
	}
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: m}
}

func at(n int64) reading       { return reading{value: n * 1000} }
func wrong(s string) reading   { return reading{err: errors.New(s)} }
func loads(v ...int64) reading { return reading{pods: use(v...)} }

// told is an outcome in words: the number, the reason, conditions as TYPE=STATUS REASON, events as REASON: MESSAGE.
func told(o outcome) string {
	out := fmt.Sprintf("%d", o.replicas)
	if o.rescale {
		out += " because " + o.why
	}
	for _, c := range o.status.Conditions {
		out += fmt.Sprintf("\n%s=%s %s", c.Type, c.Status, c.Reason)
	}
	for _, e := range o.events {
		out += "\n" + e.reason + ": " + e.message
	}
	return out
}

const (
	able   = "\nAbleToScale=True "
	active = "\nScalingActive=True ValidMetricFound"
	freely = "\nScalingLimited=False DesiredWithinRange"
	byCPU  = " because cpu resource utilization (percentage of request) above target"
	byNone = " because All metrics below target"
	bySize = " because external metric queue(nil) above target"
)

func TestDecide(t *testing.T) {
	slow, none := int32(60), int32(0)
	disabled := autoscalingv2.DisabledPolicySelect
	behaves := func(h *autoscalingv2.HorizontalPodAutoscaler, up, down *autoscalingv2.HPAScalingRules) *autoscalingv2.HorizontalPodAutoscaler {
		h.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: up, ScaleDown: down}
		return h
	}
	zeroed := func(h *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
		h.Status.Conditions = append(h.Status.Conditions, scaledToZero(noon, true))
		return h
	}
	for _, c := range []struct {
		name     string
		hpa      *autoscalingv2.HorizontalPodAutoscaler
		scale    scale
		lost     error
		refused  *refusal
		pods     []*corev1.Pod
		readings []reading
		past     []advice
		want     string
	}{
		{name: "as it should be", hpa: scaler(1, 10, cpu(50)), scale: scale{spec: 2}, pods: crew(2), readings: []reading{loads(500, 500)},
			want: "2" + able + "ReadyForNewScale" + active + freely},
		{name: "up", hpa: scaler(1, 10, cpu(50)), scale: scale{spec: 2}, pods: crew(2), readings: []reading{loads(900, 900)},
			want: "4" + byCPU + able + "ReadyForNewScale" + active + freely},
		{name: "up, but not faster than may be", hpa: scaler(1, 100, cpu(10)), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(900, 900, 900)},
			want: "6" + byCPU + able + "ReadyForNewScale" + active + "\nScalingLimited=True ScaleUpLimit"},
		{name: "up, but no further than the maximum", hpa: scaler(1, 5, cpu(10)), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(900, 900, 900)},
			want: "5" + byCPU + able + "ReadyForNewScale" + active + "\nScalingLimited=True TooManyReplicas"},
		{name: "down only when nothing more was advised lately", hpa: scaler(1, 10, cpu(50)), scale: scale{spec: 4}, pods: crew(4), readings: []reading{loads(100, 100, 100, 100)},
			past: []advice{{3, ago(299)}, {8, ago(301)}},
			want: "3" + byNone + able + "ScaleDownStabilized" + active + freely},
		{name: "down", hpa: scaler(1, 10, cpu(50)), scale: scale{spec: 4}, pods: crew(4), readings: []reading{loads(100, 100, 100, 100)}, past: []advice{{1, ago(1)}},
			want: "1" + byNone + able + "ReadyForNewScale" + active + freely},
		{name: "down, but no further than the minimum", hpa: scaler(2, 10, cpu(50)), scale: scale{spec: 4}, pods: crew(4), readings: []reading{loads(0, 0, 0, 0)}, past: []advice{{0, ago(1)}},
			want: "2" + byNone + able + "ReadyForNewScale" + active + "\nScalingLimited=True TooFewReplicas"},
		{name: "a restart is no reason to go down", hpa: scaler(1, 10, cpu(50)), scale: scale{spec: 4}, pods: crew(4), readings: []reading{loads(100, 100, 100, 100)},
			want: "4" + able + "ScaleDownStabilized" + active + freely},

		{name: "too many", hpa: scaler(1, 10, cpu(50)), scale: scale{spec: 12}, want: "10 because Current number of replicas above Spec.MaxReplicas" + able + "SucceededGetScale"},
		{name: "too few", hpa: scaler(3, 10, cpu(50)), scale: scale{spec: 1}, want: "3 because Current number of replicas below Spec.MinReplicas" + able + "SucceededGetScale"},
		{name: "one at least where nothing is said", hpa: func() *autoscalingv2.HorizontalPodAutoscaler {
			h := scaler(0, 10, cpu(50))
			h.Spec.MinReplicas = nil
			return h
		}(), scale: scale{spec: 1}, pods: crew(1), readings: []reading{loads(0)}, past: []advice{{0, ago(1)}}, want: "1" + able + "ReadyForNewScale" + active + "\nScalingLimited=True TooFewReplicas"},

		{name: "rests at zero", hpa: scaler(1, 10, cpu(50)), want: "0" + able + "SucceededGetScale\nScalingActive=False ScalingDisabled"},
		{name: "rests at zero though it might be there by metrics", hpa: scaler(0, 10, queue(true)), want: "0" + able + "SucceededGetScale\nScalingActive=False ScalingDisabled"},
		{name: "to zero", hpa: scaler(0, 10, queue(false)), scale: scale{spec: 2}, pods: crew(2), readings: []reading{at(0)}, past: []advice{{0, ago(1)}},
			want: "0" + byNone + able + "ReadyForNewScale" + active + freely},
		{name: "stays at zero", hpa: zeroed(scaler(0, 10, queue(false))), readings: []reading{at(0)},
			want: "0\nScaledToZero=True ScaledToZero" + able + "ReadyForNewScale" + active + freely},
		{name: "from zero", hpa: zeroed(scaler(0, 10, queue(false))), readings: []reading{at(25)},
			want: "3" + bySize + "\nScaledToZero=True ScaledToZero" + able + "ReadyForNewScale" + active + freely},
		{name: "from zero by each", hpa: zeroed(scaler(0, 10, queue(true))), readings: []reading{at(25)},
			want: "3" + bySize + "\nScaledToZero=True ScaledToZero" + able + "ReadyForNewScale" + active + freely},
		{name: "from zero, for at least one is wanted now", hpa: zeroed(scaler(2, 10, queue(true))),
			want: "2 because Current number of replicas below Spec.MinReplicas\nScaledToZero=True ScaledToZero" + able + "SucceededGetScale"},
		{name: "scaled up by hand", hpa: zeroed(scaler(0, 10, queue(false))), scale: scale{spec: 1}, pods: crew(1), readings: []reading{at(10)},
			want: "1\nScaledToZero=False NotScaledToZero" + able + "ReadyForNewScale" + active + freely},

		{name: "the greatest of several", hpa: scaler(1, 10, cpu(50), queue(true)), scale: scale{spec: 2, status: 2}, pods: crew(2), readings: []reading{loads(500, 500), at(31)},
			want: "4" + bySize + able + "ReadyForNewScale" + active + freely},
		{name: "one is unknown, the other goes up", hpa: scaler(1, 10, cpu(50), queue(true)), scale: scale{spec: 2, status: 2}, pods: crew(2), readings: []reading{loads(900, 900), wrong("away")},
			want: "4" + byCPU + able + "ReadyForNewScale" + active + freely + "\nFailedGetExternalMetric: away"},
		{name: "one is unknown, the other stays", hpa: scaler(1, 10, cpu(50), queue(true)), scale: scale{spec: 2, status: 2}, pods: crew(2), readings: []reading{loads(500, 500), wrong("away")},
			want: "2" + able + "ReadyForNewScale" + active + freely + "\nFailedGetExternalMetric: away"},
		{name: "one is unknown, the other would go down", hpa: scaler(1, 10, cpu(50), queue(true)), scale: scale{spec: 2, status: 2}, pods: crew(2), readings: []reading{loads(100, 100), wrong("away")}, past: []advice{{1, ago(1)}},
			want: "2" + able + "SucceededGetScale\nScalingActive=False FailedGetExternalMetric\nFailedGetExternalMetric: away" +
				"\nFailedComputeMetricsReplicas: invalid metrics (1 invalid out of 2), first error is: failed to get queue external metric value: away"},
		{name: "all are unknown", hpa: scaler(1, 10, cpu(50), queue(true)), scale: scale{spec: 2}, pods: crew(2), readings: []reading{wrong("no"), wrong("away")},
			want: "2" + able + "SucceededGetScale\nScalingActive=False FailedGetResourceMetric\nFailedGetResourceMetric: failed to get cpu utilization: no\nFailedGetExternalMetric: away" +
				"\nFailedComputeMetricsReplicas: invalid metrics (2 invalid out of 2), first error is: failed to get cpu resource metric value: failed to get cpu utilization: no"},
		{name: "no pods", hpa: scaler(1, 10, cpu(50)), scale: scale{spec: 2}, readings: []reading{loads(100)},
			want: "2" + able + "SucceededGetScale\nScalingActive=False FailedGetResourceMetric\nFailedGetResourceMetric: failed to get cpu utilization: no pods returned by selector while calculating replica count" +
				"\nFailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: no pods returned by selector while calculating replica count"},
		{name: "of no sort", hpa: scaler(1, 10, autoscalingv2.MetricSpec{Type: "Odd"}), scale: scale{spec: 2}, pods: crew(2), readings: []reading{{}},
			want: "2" + able + "SucceededGetScale\nScalingActive=False InvalidMetricSourceType\nInvalidMetricSourceType: unknown metric source type \"Odd\"" +
				"\nFailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: unknown metric source type \"Odd\""},

		{name: "no scale", hpa: scaler(1, 10, cpu(50)), lost: errors.New("gone"), want: "0\nAbleToScale=False FailedGetScale\nFailedGetScale: gone"},
		{name: "no selector", hpa: scaler(1, 10, cpu(50)), scale: scale{spec: 2}, refused: &refusal{"SelectorRequired", "InvalidSelector", "selector is required", "missing"},
			want: "2" + able + "SucceededGetScale\nScalingActive=False InvalidSelector\nSelectorRequired: selector is required\nFailedComputeMetricsReplicas: selector is required"},

		{name: "behaves: four or twice as many", hpa: behaves(scaler(1, 100, cpu(10)), nil, nil), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(900, 900, 900)}, past: []advice{{3, ago(400)}},
			want: "7" + byCPU + able + "ReadyForNewScale" + active + "\nScalingLimited=True ScaleUpLimit"},
		{name: "behaves: slow up", hpa: behaves(scaler(1, 100, cpu(50)), &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &slow}, nil), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(900, 900, 900)}, past: []advice{{4, ago(30)}},
			want: "4" + byCPU + able + "ScaleUpStabilized" + active + freely},
		{name: "behaves: never up", hpa: behaves(scaler(1, 100, cpu(50)), &autoscalingv2.HPAScalingRules{SelectPolicy: &disabled}, nil), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(900, 900, 900)},
			want: "3" + able + "ReadyForNewScale" + active + "\nScalingLimited=True ScaleUpLimit"},
		{name: "behaves: down at once", hpa: behaves(scaler(1, 100, cpu(50)), nil, &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &none}), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(100, 100, 100)},
			want: "1" + byNone + able + "ReadyForNewScale" + active + freely},
		{name: "behaves: down by one", hpa: behaves(scaler(1, 100, cpu(50)), nil, &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &none, Policies: []autoscalingv2.HPAScalingPolicy{pods(1, 60)}}), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(100, 100, 100)},
			want: "2" + byNone + able + "ReadyForNewScale" + active + "\nScalingLimited=True ScaleDownLimit"},
		{name: "behaves: down with the cluster's patience", hpa: behaves(scaler(1, 100, cpu(50)), nil, nil), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(100, 100, 100)}, past: []advice{{2, ago(299)}},
			want: "2" + byNone + able + "ScaleDownStabilized" + active + freely},
		{name: "behaves: no further than the minimum", hpa: behaves(scaler(2, 100, cpu(50)), nil, &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &none}), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(100, 100, 100)},
			want: "2" + byNone + able + "ReadyForNewScale" + active + "\nScalingLimited=True TooFewReplicas"},
		{name: "behaves: no further than the maximum", hpa: behaves(scaler(1, 5, cpu(50)), nil, nil), scale: scale{spec: 3}, pods: crew(3), readings: []reading{loads(900, 900, 900)},
			want: "5" + byCPU + able + "ReadyForNewScale" + active + "\nScalingLimited=True TooManyReplicas"},
		{name: "behaves: its own tolerance", hpa: behaves(scaler(1, 10, cpu(50)), &autoscalingv2.HPAScalingRules{Tolerance: new(resource.MustParse("0.5"))}, nil), scale: scale{spec: 2}, pods: crew(2), readings: []reading{loads(740, 740)},
			want: "2" + able + "ReadyForNewScale" + active + freely},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := look{hpa: c.hpa, cfg: usual, now: noon, past: &history{advice: c.past, begun: len(c.past) > 0}, lost: c.lost, scale: c.scale, refused: c.refused,
				selector: labels.Everything(), pods: c.pods, readings: c.readings}
			if got := told(l.decide()); got != c.want {
				t.Errorf("told\n%s\n\nwant\n%s", got, c.want)
			}
			if asks := len(c.readings) > 0 || c.refused != nil; c.lost == nil && l.measures() != asks {
				t.Error("asks metrics when it need not, or not when it should")
			}
		})
	}
}

// A status that tells the same again is not written again.
func TestStatusIsSteady(t *testing.T) {
	h := scaler(1, 10, cpu(50), queue(true))
	past := &history{}
	for i := range 3 {
		l := look{hpa: h, cfg: usual, now: noon.Add(time.Duration(i) * 15 * time.Second), past: past, scale: scale{spec: 2, status: 2}, selector: labels.Everything(), pods: crew(2), readings: []reading{loads(500, 510), at(19)}}
		o := l.decide()
		if i > 0 && !equality.Semantic.DeepEqual(o.status, h.Status) {
			t.Fatalf("the status moved from\n%v to\n%v", h.Status, o.status)
		}
		h.Status = o.status
	}
	s := h.Status
	if s.CurrentReplicas != 2 || s.DesiredReplicas != 2 || *s.ObservedGeneration != 3 || s.LastScaleTime != nil || len(s.CurrentMetrics) != 2 {
		t.Errorf("status %+v", s)
	}
	if m := s.CurrentMetrics[0]; m.Type != "Resource" || *m.Resource.Current.AverageUtilization != 50 || m.Resource.Current.AverageValue.String() != "505m" {
		t.Errorf("of the CPU it tells %+v", m.Resource)
	}
	if m := s.CurrentMetrics[1]; m.Type != "External" || m.External.Current.AverageValue.String() != "9500m" {
		t.Errorf("of the queue it tells %+v", m.External)
	}
}

// A metric that fails leaves its place in the status empty.
func TestEachSort(t *testing.T) {
	ten := resource.MustParse("10")
	value := autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: &ten}
	average := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &ten}
	service := autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: "Service", Name: "web"}
	name := autoscalingv2.MetricIdentifier{Name: "hits"}
	container := func(t autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{Name: "cpu", Container: "main", Target: t}}
	}
	for _, c := range []struct {
		what     string
		spec     autoscalingv2.MetricSpec
		r        reading
		replicas int32
		name     string
		fails    string // as all metrics together tell it
		reason   string
	}{
		{"container", container(cpu(50).Resource.Target), loads(1000, 1000), 4, "cpu container resource utilization (percentage of request)", "", ""},
		{"container by value", container(average), loads(20000, 20000), 4, "cpu resource", "", ""},
		{"container without a target", container(autoscalingv2.MetricTarget{}), loads(1), 0, "", "failed to get main container metric value: invalid resource metric source", "FailedGetContainerResourceMetric"},
		{"pods", autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: name, Target: average}}, loads(20000, 20000), 4, "pods metric hits", "", ""},
		{"pods that fail", autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: name, Target: average}}, wrong("no"), 0, "", "failed to get pods metric value: no", "FailedGetPodsMetric"},
		{"object", autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{DescribedObject: service, Metric: name, Target: value}}, at(15), 3, "Service metric hits", "", ""},
		{"object for each", autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{DescribedObject: service, Metric: name, Target: average}}, at(41), 5, "external metric hits(nil)", "", ""},
		{"object without a target", autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{DescribedObject: service, Metric: name}}, at(1), 0, "", "failed to get object metric value: invalid object metric source: neither", "FailedGetObjectMetric"},
		{"external without a target", autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: name}}, at(1), 0, "", "failed to get hits external metric value: invalid external metric source: neither", "FailedGetExternalMetric"},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := look{hpa: scaler(1, 10, c.spec), cfg: usual, now: noon, past: &history{}, scale: scale{spec: 2, status: 2}, pods: crew(2)}
			p := l.propose(&c.spec, c.r)
			if !failsWith(p.err, c.fails) || p.reason != c.reason && p.err != nil || p.replicas != c.replicas || p.name != c.name {
				t.Errorf("%+v", p)
			}
			if (p.status.Type == "") != (p.err != nil) {
				t.Errorf("of a metric with the error %v it tells %+v", p.err, p.status)
			}
		})
	}
}

func TestSelectors(t *testing.T) {
	if _, no := parseSelector(""); no == nil || no.event != "SelectorRequired" || no.condition != "InvalidSelector" {
		t.Errorf("none: %+v", no)
	}
	if _, no := parseSelector("a b"); no == nil || no.event != "InvalidSelector" || !strings.HasPrefix(no.message, "couldn't convert selector") {
		t.Errorf("bad: %+v", no)
	}
	s, no := parseSelector("app=web")
	if no != nil {
		t.Fatal(no)
	}
	names := []loop.Key{{Namespace: "ns", Name: "a"}, {Namespace: "ns", Name: "b"}, {Namespace: "ns", Name: "c"}}
	other, _ := labels.Parse("app=other")
	wider, _ := labels.Parse("app")
	of := []selected{{Selector: s}, {Selector: other}, {Selector: wider}}
	if got := sharing(crew(2), names, of); !slices.Equal(got, []loop.Key{names[0], names[2]}) {
		t.Errorf("shared by %v", got)
	}
	if got := sharing(nil, names, of); len(got) != 0 {
		t.Errorf("no pods are shared by %v", got)
	}
}

func TestWakes(t *testing.T) {
	before, after := scaler(1, 2), scaler(1, 2)
	after.Status.CurrentReplicas = 7
	if k := changed(loop.Event{Old: before, New: after}); len(k) != 0 {
		t.Errorf("a status wakes %v", k)
	}
	after.Generation++
	for _, e := range []loop.Event{{New: after}, {Old: after}, {Old: before, New: after}} {
		if k := changed(e); len(k) != 1 {
			t.Errorf("%+v wakes %v", e, k)
		}
	}
}
