package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/pod"
)

// Deployments and others are scaled up and down by measurements, which a stand-in for the metrics' servers gives.
func TestHorizontalPodAutoscaler(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--horizontal-pod-autoscaler-sync-period=100ms", "--horizontal-pod-autoscaler-cpu-initialization-period=0s", "--horizontal-pod-autoscaler-initial-readiness-delay=0s",
		"--horizontal-pod-autoscaler-downscale-stabilization=1s")
	w.player.script("scaled", func(ctx context.Context, o *corev1.Pod) {
		if pod.Ready(o) {
			return
		}
		start := metav1.NewTime(time.Now().Add(-time.Hour))
		o.Status.Phase, o.Status.StartTime = corev1.PodRunning, &start
		pod.SetCondition(&o.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, start.Time)
		w.kube.CoreV1().Pods(o.Namespace).UpdateStatus(ctx, o, metav1.UpdateOptions{}) // what is lost is played again
	})
	w.sub("hpa-cpu", func(w *world, ns string) { scaleByCPU(w, ns) })
	w.sub("hpa-external", func(w *world, ns string) { scaleToZero(w, ns) })
	w.sub("hpa-custom", func(w *world, ns string) { scaleByCustom(w, ns) })
	w.sub("hpa-wrong", func(w *world, ns string) { cannotScale(w, ns) })
}

func scaleByCPU(w *world, ns string) {
	w.scaledDeployment(ns, "web", 2)
	h := w.autoscaler(ns, "web", "Deployment", 1, 6, autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))}}})
	w.until("it says that nobody measures", func() error {
		return w.condition(ns, h, autoscalingv2.ScalingActive, "False", "FailedGetResourceMetric",
			"unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)")
	})

	var load, asked atomic.Int64
	load.Store(100)
	w.fakes.Store("/apis/metrics.k8s.io/v1beta1/namespaces/"+ns+"/pods", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var items []any
		for _, name := range w.podNames(r, ns) {
			items = append(items, map[string]any{"metadata": map[string]any{"name": name, "namespace": ns}, "timestamp": metav1.Now(), "window": "10s",
				"containers": []any{map[string]any{"name": "c", "usage": map[string]any{"cpu": fmt.Sprint(load.Load(), "m")}}}})
		}
		reply(rw, items)
	}))
	w.until("it is at its maximum", func() error { return w.replicas(ns, "web", 6) })
	w.until("it says so", func() error {
		return errors.Join(
			w.condition(ns, h, autoscalingv2.AbleToScale, "True", "ReadyForNewScale", "recommended size matches current size"),
			w.condition(ns, h, autoscalingv2.ScalingActive, "True", "ValidMetricFound", "cpu resource utilization (percentage of request)"),
			w.condition(ns, h, autoscalingv2.ScalingLimited, "True", "TooManyReplicas", "more than the maximum"),
			w.happened(ns, h, "SuccessfulRescale", "New size: 4; reason: cpu resource utilization (percentage of request) above target"),
			w.happened(ns, h, "SuccessfulRescale", "New size: 6; reason: cpu resource utilization (percentage of request) above target"))
	})

	// Nothing is written as long as it stays so.
	load.Store(50)
	w.until("it stays", func() error {
		return errors.Join(w.utilization(ns, h, 50), w.condition(ns, h, autoscalingv2.AbleToScale, "True", "ReadyForNewScale", ""),
			w.condition(ns, h, autoscalingv2.ScalingLimited, "False", "DesiredWithinRange", ""))
	})
	before, looks := w.wrote(ns), asked.Load()
	w.until("it has been looked at more often", func() error {
		if asked.Load() < looks+8 {
			return errors.New("not yet")
		}
		return nil
	})
	if after := w.wrote(ns); before != after {
		w.Errorf("while nothing changes, what is written goes from\n%s\nto\n%s", before, after)
	}

	load.Store(10)
	w.until("it is small", func() error { return w.replicas(ns, "web", 1) })
	w.until("it says why", func() error {
		return w.happened(ns, h, "SuccessfulRescale", "New size: 1; reason: All metrics below target")
	})

	// By hand to zero it rests; a minimum is kept.
	w.scaleTo(ns, "web", 0)
	w.until("it rests", func() error {
		return w.condition(ns, h, autoscalingv2.ScalingActive, "False", "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
	})
	w.scaleTo(ns, "web", 9)
	w.until("it is cut back", func() error {
		return w.happened(ns, h, "SuccessfulRescale", "New size: 6; reason: Current number of replicas above Spec.MaxReplicas")
	})
}

// A queue outside the cluster scales to zero and back, and what somebody else scaled to zero rests.
func scaleToZero(w *world, ns string) {
	var length atomic.Int64
	w.fakes.Store("/apis/external.metrics.k8s.io/v1beta1/namespaces/"+ns+"/queue", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("labelSelector"); got != "name=mail" {
			http.Error(rw, "asked for "+got, http.StatusBadRequest)
			return
		}
		half := fmt.Sprint(length.Load()*500, "m")
		reply(rw, []any{map[string]any{"metricName": "queue", "value": half}, map[string]any{"metricName": "queue", "value": half}})
	}))
	length.Store(30)
	w.scaledDeployment(ns, "web", 1)
	h := w.autoscaler(ns, "web", "Deployment", 0, 6, autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "queue", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"name": "mail"}}},
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10"))}}})
	w.until("there are three", func() error { return w.replicas(ns, "web", 3) })
	length.Store(0)
	w.until("there is none", func() error { return w.replicas(ns, "web", 0) })
	w.until("it says that it did it", func() error {
		return w.condition(ns, h, autoscalingv2.ScaledToZero, "True", "ScaledToZero", "the HPA controller scaled the workload to zero")
	})
	length.Store(11)
	w.until("there are two", func() error { return w.replicas(ns, "web", 2) })
	w.until("it says that it is back", func() error {
		return w.condition(ns, h, autoscalingv2.ScaledToZero, "False", "NotScaledToZero", "did not scale")
	})
}

// Metrics of pods and of another object, by the newer version of the group; the target is a ReplicaSet.
func scaleByCustom(w *world, ns string) {
	const group = "/apis/custom.metrics.k8s.io"
	var hits atomic.Int64
	hits.Store(30)
	w.fakes.Store(group, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case group:
			json.NewEncoder(rw).Encode(metav1.APIGroup{Name: "custom.metrics.k8s.io", Versions: []metav1.GroupVersionForDiscovery{{Version: "v1beta1"}, {Version: "v1beta2"}}})
		case group + "/v1beta2/namespaces/" + ns + "/pods/*/hits":
			var items []any
			for _, name := range w.podNames(r, ns) {
				items = append(items, map[string]any{"describedObject": map[string]any{"kind": "Pod", "name": name}, "metric": map[string]any{"name": "hits"}, "value": fmt.Sprint(hits.Load()), "timestamp": metav1.Now()})
			}
			reply(rw, items)
		case group + "/v1beta2/namespaces/" + ns + "/ingresses.networking.k8s.io/door/rate":
			reply(rw, []any{map[string]any{"describedObject": map[string]any{"kind": "Ingress", "name": "door"}, "metric": map[string]any{"name": "rate"}, "value": "2500m", "timestamp": metav1.Now()}})
		default:
			rw.WriteHeader(http.StatusNotFound)
			json.NewEncoder(rw).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: "NotFound", Code: 404, Message: "the server could not find the metric"})
		}
	}))
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "set"}, Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(1)),
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "set"}}, Template: scaledPod("set")}}
	must(w.kube.AppsV1().ReplicaSets(ns).Create(w.Context(), rs, metav1.CreateOptions{}))(w)
	h := w.autoscaler(ns, "set", "ReplicaSet", 1, 8,
		autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "hits"},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10"))}}},
		autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "rate"},
			DescribedObject: autoscalingv2.CrossVersionObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Name: "door"},
			Target:          autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("1"))}}})
	size := func(want int32) func() error {
		return func() error {
			rs, err := w.kube.AppsV1().ReplicaSets(ns).Get(w.Context(), "set", metav1.GetOptions{})
			if err == nil && *rs.Spec.Replicas != want {
				err = fmt.Errorf("it wants %d", *rs.Spec.Replicas)
			}
			return err
		}
	}
	w.until("hits bring it to its maximum", size(8))
	hits.Store(1)
	w.until("the door's rate keeps three", size(3))
	w.until("both are told", func() error {
		got, err := w.kube.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(w.Context(), h.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if m := got.Status.CurrentMetrics; len(m) != 2 || m[0].Pods == nil || m[0].Pods.Current.AverageValue.String() != "1" || m[1].Object == nil || m[1].Object.Current.AverageValue.String() != "834m" {
			return fmt.Errorf("told %+v", m)
		}
		return nil
	})
	h2 := w.autoscaler(ns, "set", "ReplicaSet", 1, 8, autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "odd"},
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10"))}}})
	w.until("both say that they are in each other's way", func() error {
		const message = "pods by selector app=set are controlled by multiple HPAs: "
		return errors.Join(w.condition(ns, h, autoscalingv2.ScalingActive, "False", "AmbiguousSelector", message), w.condition(ns, h2, autoscalingv2.ScalingActive, "False", "AmbiguousSelector", message))
	})
	if err := w.kube.AutoscalingV2().HorizontalPodAutoscalers(ns).Delete(w.Context(), h.Name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the other is free, and says that its metric is not known", func() error {
		return w.condition(ns, h2, autoscalingv2.ScalingActive, "False", "FailedGetPodsMetric", "unable to get metric odd: unable to fetch metrics from custom metrics API: the server could not find the metric")
	})
}

func cannotScale(w *world, ns string) {
	metric := autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))}}}
	h := w.autoscaler(ns, "nothing", "Deployment", 1, 6, metric)
	w.until("there is no such deployment", func() error {
		return errors.Join(w.condition(ns, h, autoscalingv2.AbleToScale, "False", "FailedGetScale", `the HPA controller was unable to get the target's current scale: deployments.apps "nothing" not found`),
			w.happened(ns, h, "FailedGetScale", `deployments.apps "nothing" not found`))
	})
	odd := w.autoscaler(ns, "odd", "Nonsense", 1, 6, metric)
	w.until("there is no such kind", func() error {
		return w.condition(ns, odd, autoscalingv2.AbleToScale, "False", "FailedGetScale", `no matches for kind "Nonsense" in group "apps"`)
	})
	w.scaledDeployment(ns, "nothing", 1)
	w.until("it is there now", func() error {
		return w.condition(ns, h, autoscalingv2.AbleToScale, "True", "SucceededGetScale", "")
	})
}

func reply(rw http.ResponseWriter, items []any) {
	rw.Header().Set("Content-Type", "application/json")
	json.NewEncoder(rw).Encode(map[string]any{"items": items})
}

// podNames are the pods that a request for measurements selects.
func (w *world) podNames(r *http.Request, ns string) (names []string) {
	list, err := w.kube.CoreV1().Pods(ns).List(r.Context(), metav1.ListOptions{LabelSelector: r.URL.Query().Get("labelSelector")})
	if err != nil {
		return nil
	}
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	return names
}

func scaledPod(app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Image: "scaled", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m")}}}}}}
}

func (w *world) scaledDeployment(ns, name string, replicas int32) {
	w.Helper()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &replicas,
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}, Template: scaledPod(name)}}
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), d, metav1.CreateOptions{}))(w)
}

func (w *world) autoscaler(ns, target, kind string, low, high int32, metrics ...autoscalingv2.MetricSpec) *autoscalingv2.HorizontalPodAutoscaler {
	w.Helper()
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{GenerateName: target + "-"}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: kind, Name: target}, MinReplicas: &low, MaxReplicas: high, Metrics: metrics}}
	return must(w.kube.AutoscalingV2().HorizontalPodAutoscalers(ns).Create(w.Context(), h, metav1.CreateOptions{}))(w)
}

func (w *world) replicas(ns, name string, want int32) error {
	d, err := w.kube.AppsV1().Deployments(ns).Get(w.Context(), name, metav1.GetOptions{})
	if err == nil && (*d.Spec.Replicas != want || d.Status.ReadyReplicas != want) {
		err = fmt.Errorf("it wants %d, and %d are ready", *d.Spec.Replicas, d.Status.ReadyReplicas)
	}
	return err
}

func (w *world) scaleTo(ns, name string, n int32) {
	w.Helper()
	s := must(w.kube.AppsV1().Deployments(ns).GetScale(w.Context(), name, metav1.GetOptions{}))(w)
	s.Spec.Replicas, s.ResourceVersion = n, ""
	must(w.kube.AppsV1().Deployments(ns).UpdateScale(w.Context(), name, s, metav1.UpdateOptions{}))(w)
}

func (w *world) condition(ns string, h *autoscalingv2.HorizontalPodAutoscaler, kind autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, message string) error {
	got, err := w.kube.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(w.Context(), h.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range got.Status.Conditions {
		if c.Type == kind && c.Status == status && c.Reason == reason && strings.Contains(c.Message, message) {
			return nil
		}
	}
	return fmt.Errorf("%s has %+v", h.Name, got.Status.Conditions)
}

func (w *world) utilization(ns string, h *autoscalingv2.HorizontalPodAutoscaler, want int32) error {
	got, err := w.kube.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(w.Context(), h.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if m := got.Status.CurrentMetrics; len(m) != 1 || m[0].Resource == nil || *m[0].Resource.Current.AverageUtilization != want || got.Status.DesiredReplicas != got.Status.CurrentReplicas {
		return fmt.Errorf("status %+v", got.Status)
	}
	return nil
}

func (w *world) happened(ns string, h *autoscalingv2.HorizontalPodAutoscaler, reason, message string) error {
	list, err := w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + h.Name})
	if err != nil {
		return err
	}
	var seen []string
	for _, e := range list.Items {
		if e.Reason == reason && e.Message == message {
			return nil
		}
		seen = append(seen, e.Reason+": "+e.Message)
	}
	return fmt.Errorf("%s had %q", h.Name, seen)
}

// wrote are the controllers' writes to autoscalers of a namespace and what they scale, in their order.
func (w *world) wrote(ns string) string {
	var out []string
	w.writeLog.Range(func(k, _ any) bool {
		if line := k.(string); strings.Contains(line, "/namespaces/"+ns+"/horizontalpodautoscalers/") || strings.Contains(line, "/namespaces/"+ns+"/deployments/") {
			out = append(out, line)
		}
		return true
	})
	slices.Sort(out)
	return strings.Join(out, "\n")
}
