package autoscaling

import (
	"math"
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"sigs.k8s.io/randfill"

	"pilothouse.dev/apiserver/registry/kindtest"
)

const scaler = `{spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, maxReplicas: 5}}`

// metric is an autoscaler with one metric.
func metric(text string) string { return `{spec: {metrics: [` + text + `]}}` }

func TestValidate(t *testing.T) {
	const at = "spec.metrics[0]"
	rules := func(text string) string { return `{spec: {behavior: {scaleUp: ` + text + `}}}` }
	kindtest.Create(t, HorizontalPodAutoscalers, scaler, []kindtest.Case{
		{Name: "good"},
		{Name: "no numbers", Diff: `{spec: {minReplicas: 0, maxReplicas: 0}}`,
			Want: []string{"spec.maxReplicas: Invalid value", "spec.metrics: Forbidden"}},
		{Name: "fewer than none", Diff: `{spec: {minReplicas: -1}}`, Want: []string{"spec.minReplicas: Invalid value"}},
		{Name: "to zero by what is outside", Diff: `{spec: {minReplicas: 0, metrics: [{type: External, external: {metric: {name: m}, target: {type: Value, value: 1}}}]}}`},
		{Name: "fewer than few", Diff: `{spec: {minReplicas: 9}}`, Want: []string{"spec.maxReplicas: Invalid value"}},
		{Name: "of nothing", Diff: `{spec: {scaleTargetRef: {apiVersion: a/b/c, kind: "", name: a/b}}}`,
			Want: []string{"spec.scaleTargetRef.apiVersion: Invalid value", "spec.scaleTargetRef.kind: Required value", "spec.scaleTargetRef.name: Invalid value"}},
		{Name: "of no group", Diff: `{spec: {scaleTargetRef: {apiVersion: v1}}}`, Want: []string{"spec.scaleTargetRef.apiVersion: Invalid value"}},
		{Name: "of a replication controller", Diff: `{spec: {scaleTargetRef: {apiVersion: v1, kind: ReplicationController}}}`},

		{Name: "each type", Diff: `{spec: {metrics: [
			{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}},
			{type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: 50}}},
			{type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 1}}},
			{type: Object, object: {describedObject: {apiVersion: v1, kind: Service, name: s}, metric: {name: m}, target: {type: Value, value: 1}}},
			{type: External, external: {metric: {name: m, selector: {matchLabels: {a: b}}}, target: {type: Value, value: 1}}}]}}`},
		{Name: "no type", Diff: metric(`{}`), Want: []string{at + ".type: Required value", at + ".type: Unsupported value"}},
		{Name: "type without source", Diff: metric(`{type: Pods}`), Want: []string{at + ".pods: Required value"}},
		{Name: "two sources", Diff: metric(`{type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 1}}, resource: {name: cpu, target: {type: Utilization, averageUtilization: 1}}}`),
			Want: []string{at + ".resource: Forbidden"}},
		{Name: "resource of nothing", Diff: metric(`{type: Resource, resource: {target: {}}}`),
			Want: []string{at + ".resource.name: Required value", at + ".resource.target.averageUtilization: Required value", at + ".resource.target.type: Required value"}},
		{Name: "resource of both", Diff: metric(`{type: Resource, resource: {name: cpu, target: {type: Odd, averageUtilization: 0, averageValue: 0}}}`),
			Want: []string{at + ".resource.target.averageUtilization: Invalid value", at + ".resource.target.averageValue: Forbidden", at + ".resource.target.averageValue: Invalid value", at + ".resource.target.type: Invalid value"}},
		{Name: "resource of no container", Diff: metric(`{type: ContainerResource, containerResource: {name: cpu, target: {type: Utilization, averageUtilization: 1}}}`),
			Want: []string{at + ".containerResource.container: Required value"}},
		{Name: "pods of nothing", Diff: metric(`{type: Pods, pods: {metric: {name: ""}, target: {type: Value, value: 1}}}`),
			Want: []string{at + ".pods.metric.name: Required value", at + ".pods.target.averageValue: Required value"}},
		{Name: "object of nothing", Diff: metric(`{type: Object, object: {describedObject: {kind: A, name: b}, metric: {name: a/b}, target: {type: Value}}}`),
			Want: []string{at + ".object.metric.name: Invalid value", at + ".object.target.averageValue: Required value"}},
		{Name: "external of both", Diff: metric(`{type: External, external: {metric: {name: m, selector: {matchLabels: {a: "b c"}}}, target: {type: Value, value: 1, averageValue: 1}}}`),
			Want: []string{at + ".external.metric.selector.matchLabels: Invalid value", at + ".external.target.value: Forbidden"}},
		{Name: "external of neither", Diff: metric(`{type: External, external: {metric: {name: m}, target: {type: Value}}}`), Want: []string{at + ".external.target.averageValue: Required value"}},

		{Name: "behaviour", Diff: rules(`{stabilizationWindowSeconds: 3600, selectPolicy: Disabled, tolerance: 50m, policies: [{type: Pods, value: 1, periodSeconds: 1800}]}`)},
		{Name: "bad behaviour", Diff: rules(`{stabilizationWindowSeconds: 3601, selectPolicy: Some, tolerance: -1, policies: [{type: Odd, value: 0, periodSeconds: 0}, {type: Pods, value: 1, periodSeconds: 1801}]}`),
			Want: []string{"spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value", "spec.behavior.scaleUp.policies[0].type: Unsupported value", "spec.behavior.scaleUp.policies[0].value: Invalid value",
				"spec.behavior.scaleUp.policies[1].periodSeconds: Invalid value", "spec.behavior.scaleUp.selectPolicy: Unsupported value",
				"spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value", "spec.behavior.scaleUp.tolerance: Invalid value"}},
		{Name: "no policies", Diff: rules(`{stabilizationWindowSeconds: -1, policies: []}`), Want: []string{"spec.behavior.scaleUp.policies: Required value", "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value"}},
	})
	kindtest.Status(t, HorizontalPodAutoscalers, scaler, []kindtest.Case{
		{Name: "good", Diff: `{status: {currentReplicas: 1, desiredReplicas: 2}}`},
		{Name: "negative", Diff: `{status: {currentReplicas: -1, desiredReplicas: -2}}`, Want: []string{"status.currentReplicas: Invalid value", "status.desiredReplicas: Invalid value"}},
	})
}

func TestDefaults(t *testing.T) {
	h := kindtest.New(t, HorizontalPodAutoscalers, scaler, `{spec: {behavior: {scaleDown: {policies: [{type: Pods, value: 1, periodSeconds: 60}]}}}}`).(*autoscalingv2.HorizontalPodAutoscaler)
	if *h.Spec.MinReplicas != 1 || share1(h.Spec.Metrics) == nil || *share1(h.Spec.Metrics) != 80 {
		t.Errorf("defaults are %+v", h.Spec)
	}
	up, down := h.Spec.Behavior.ScaleUp, h.Spec.Behavior.ScaleDown
	if *up.StabilizationWindowSeconds != 0 || *up.SelectPolicy != "Max" || len(up.Policies) != 2 || up.Policies[0].Value != 4 || up.Policies[1].Value != 100 {
		t.Errorf("up it goes by %+v", up)
	}
	if down.StabilizationWindowSeconds != nil || *down.SelectPolicy != "Max" || len(down.Policies) != 1 || down.Policies[0].PeriodSeconds != 60 {
		t.Errorf("down it goes by %+v", down)
	}
	if h := kindtest.New(t, HorizontalPodAutoscalers, scaler, "").(*autoscalingv2.HorizontalPodAutoscaler); h.Spec.Behavior != nil {
		t.Error("behaves though nothing was said")
	}
}

func TestColumns(t *testing.T) {
	for want, text := range map[string]string{
		"cpu: <unknown>/80%": "",
		"cpu: 10%/50%": `{spec: {metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]},
			status: {currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 10, averageValue: 5m}}}]}}`,
		"memory: 5Mi/1Gi": `{spec: {metrics: [{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}]},
			status: {currentMetrics: [{type: Resource, resource: {name: memory, current: {averageValue: 5Mi}}}]}}`,
		"<unknown>/5 (avg), <unknown>/7 + 1 more...": `{spec: {metrics: [{type: External, external: {metric: {name: m}, target: {type: AverageValue, averageValue: 5}}},
			{type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 7}}}, {type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 7}}}]}}`,
		"3/4, cpu: <unknown>/9%": `{spec: {metrics: [{type: Object, object: {describedObject: {kind: A, name: b}, metric: {name: m}, target: {type: Value, value: 4}}},
			{type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: 9}}}]},
			status: {currentMetrics: [{type: Object, object: {describedObject: {kind: A, name: b}, metric: {name: m}, current: {value: 3}}}]}}`,
	} {
		h := kindtest.New(t, HorizontalPodAutoscalers, scaler, text)
		all := map[string]string{"Reference": "Deployment/web", "Targets": want, "MinPods": "1", "MaxPods": "5", "Replicas": "0"}
		kindtest.Shows(t, HorizontalPodAutoscalers, h, all)
		kindtest.Shows(t, HorizontalPodAutoscalersV1, HorizontalPodAutoscalersV1.ToServed(h), all)
	}
}

func v1(t *testing.T, text string) *autoscalingv1.HorizontalPodAutoscaler {
	t.Helper()
	h := kindtest.Parse(t, HorizontalPodAutoscalers, scaler, text).(*autoscalingv2.HorizontalPodAutoscaler)
	return toV1(h)
}

// What old clients know of the older version.
func TestAsV1(t *testing.T) {
	const cpu, memory = `{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}`,
		`{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}`
	h := v1(t, metric(cpu))
	if *h.Spec.TargetCPUUtilizationPercentage != 50 || h.Annotations[noteMetrics] != "" {
		t.Errorf("one metric is %+v", h)
	}
	h = v1(t, metric(memory+","+cpu))
	if *h.Spec.TargetCPUUtilizationPercentage != 50 || h.Annotations[noteMetrics] != `[{"type":"Resource","resource":{"name":"memory","targetAverageValue":"1Gi"}}]` {
		t.Errorf("two metrics are %+v", h)
	}
	// An old client changes what it knows; the rest stays, in its order.
	h = v1(t, metric(cpu+","+memory))
	*h.Spec.TargetCPUUtilizationPercentage = 60
	back := fromV1(h)
	if len(back.Spec.Metrics) != 2 || *share1(back.Spec.Metrics[:1]) != 60 || back.Spec.Metrics[1].Resource.Name != "memory" || len(back.Annotations) != 0 {
		t.Errorf("changed by an old client: %+v", back)
	}
	// The form in which Kubernetes writes them is understood, too.
	back = fromV1(&autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		noteBehavior: `{"ScaleUp":{"StabilizationWindowSeconds":7,"SelectPolicy":"Min","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}]}}`,
		noteCurrent:  `[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":3,"currentAverageValue":"5m"}}]`,
	}}})
	if up := back.Spec.Behavior.ScaleUp; *up.StabilizationWindowSeconds != 7 || up.Policies[0].PeriodSeconds != 15 || *currentShare(back.Status.CurrentMetrics) != 3 {
		t.Errorf("read from Kubernetes' own form: %+v", back)
	}
}

func TestBadNotes(t *testing.T) {
	for key, text := range map[string]string{noteMetrics: `[{"type":"Pods","odd":1}]`, noteBehavior: `[`, noteConditions: `{}`, noteCurrent: `5`} {
		h := &autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{key: text}}}
		got := kindtest.Brief(HorizontalPodAutoscalersV1.ValidateServed(h, nil))
		if want := "metadata.annotations[" + key + "]: Invalid value"; strings.Join(got, "\n") != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	// In the newer version they mean nothing.
	h := kindtest.New(t, HorizontalPodAutoscalers, scaler, `{metadata: {annotations: {a: b, "`+noteMetrics+`": "[]"}}}`)
	HorizontalPodAutoscalers.BeforeUpdate(h, h)
	if got := h.GetAnnotations(); len(got) != 1 || got["a"] != "b" {
		t.Errorf("keeps %v", got)
	}
}

// Whatever an autoscaler says survives being read and written in the older version.
func TestNothingIsLostInV1(t *testing.T) {
	fill := randfill.NewWithSeed(1).NilChance(.4).NumElements(0, 3).MaxDepth(14).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(1e6), resource.DecimalSI)
		},
		func(m *metav1.Time, c randfill.Continue) { *m = metav1.Unix(c.Int63n(math.MaxInt32), 0) },
		func(*metav1.FieldsV1, randfill.Continue) {},
		func(m *autoscalingv2.MetricSpec, c randfill.Continue) {
			c.FillNoCustom(m)
			if c.Bool() { // half of them what v1 has a field for, or nearly
				*m = cpuMetric(c.Int31n(100))
				if c.Intn(4) == 0 {
					m.Resource.Target.AverageValue = resource.NewQuantity(c.Int63n(9), resource.DecimalSI)
				}
			}
		},
		func(m *autoscalingv2.MetricStatus, c randfill.Continue) {
			c.FillNoCustom(m)
			if c.Bool() {
				n := c.Int31n(100)
				*m = autoscalingv2.MetricStatus{Type: "Resource", Resource: &autoscalingv2.ResourceMetricStatus{Name: "cpu", Current: autoscalingv2.MetricValueStatus{AverageUtilization: &n}}}
			}
		},
	)
	for range 300 {
		h := &autoscalingv2.HorizontalPodAutoscaler{}
		fill.Fill(h)
		h.TypeMeta = metav1.TypeMeta{}
		if back := fromV1(toV1(h)); !apiequality.Semantic.DeepEqual(h, back) {
			t.Fatalf("lost on the way:\n%s", diff.Diff(h, back))
		}
	}
}
