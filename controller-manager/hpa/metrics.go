package hpa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"pilothouse.dev/controller-manager/served"
	"pilothouse.dev/pkg/client"
)

// reading is what was measured for one metric: by pod for those of resources and pods, one number for the others.
type reading struct {
	pods  map[string]sample
	value int64 // in thousandths
	err   error
	spec  bool // the error is the spec's
	took  time.Duration
}

// sample is one pod's measurement.
type sample struct {
	value  int64 // in thousandths
	at     time.Time
	window time.Duration // that it was taken over, before at
}

// The groups that serve metrics. Their answers are read as JSON into the few fields that matter (below), so that none of their
// clients and types is linked: https://github.com/kubernetes/metrics says what they look like.
const (
	resourceGroup = "metrics.k8s.io"
	customGroup   = "custom.metrics.k8s.io"
	externalGroup = "external.metrics.k8s.io"
	metricsV1     = "v1beta1"
)

// defaultWindow is what a measurement covers whose server does not say.
const defaultWindow = time.Minute

// source asks for measurements through the API server. Safe for concurrent use.
type source struct {
	rest     rest.Interface
	versions func(ctx context.Context, group string) ([]string, error)

	mu     sync.Mutex
	custom string // guarded by mu: the version of custom.metrics.k8s.io that is served; "": not known
}

func newSource(c *client.Clients) *source {
	return &source{rest: c.Kube.Discovery().RESTClient(), versions: func(ctx context.Context, group string) ([]string, error) {
		return served.Versions(ctx, c.Kube, group)
	}}
}

type podMetrics struct {
	Items []struct {
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
		Timestamp  metav1.Time     `json:"timestamp"`
		Window     metav1.Duration `json:"window"`
		Containers []struct {
			Name  string              `json:"name"`
			Usage corev1.ResourceList `json:"usage"`
		} `json:"containers"`
	} `json:"items"`
}

// values is a list of custom or external metrics in any version.
type values struct {
	Items []struct {
		DescribedObject struct {
			Name string `json:"name"`
		} `json:"describedObject"`
		Timestamp     metav1.Time       `json:"timestamp"`
		Window        *int64            `json:"window"`        // v1beta1
		WindowSeconds *int64            `json:"windowSeconds"` // v1beta2
		Value         resource.Quantity `json:"value"`
	} `json:"items"`
}

// read measures for one metric of an autoscaler.
func (s *source) read(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, m *autoscalingv2.MetricSpec, pods labels.Selector, kinds *targets) reading {
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		return s.resource(ctx, hpa.Namespace, pods, m.Resource.Name, "")
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		return s.resource(ctx, hpa.Namespace, pods, m.ContainerResource.Name, m.ContainerResource.Container)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		return s.pods(ctx, hpa.Namespace, pods, m.Pods.Metric)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		return s.object(ctx, hpa.Namespace, m.Object, kinds)
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		return s.external(ctx, hpa.Namespace, m.External.Metric)
	}
	return reading{err: fmt.Errorf("unknown metric source type %q", m.Type), spec: true}
}

// resource is what pods, or one container of each, use of a resource.
func (s *source) resource(ctx context.Context, namespace string, pods labels.Selector, name corev1.ResourceName, container string) reading {
	fail := func(err error) reading {
		return reading{err: fmt.Errorf("unable to get metrics for resource %s: %w", name, err)}
	}
	var list podMetrics
	err := s.get(ctx, schema.GroupVersionResource{Group: resourceGroup, Version: metricsV1, Resource: "pods"}, []string{"namespaces", namespace, "pods"},
		map[string]string{"labelSelector": pods.String()}, &list)
	if err != nil {
		return fail(fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err))
	}
	if len(list.Items) == 0 {
		return fail(errors.New("no metrics returned from resource metrics API"))
	}
	r := reading{pods: make(map[string]sample, len(list.Items))}
	for _, m := range list.Items {
		one, complete, seen := sample{at: m.Timestamp.Time, window: m.Window.Duration}, len(m.Containers) > 0, false
		for _, c := range m.Containers {
			if container != "" && c.Name != container {
				continue
			}
			used, ok := c.Usage[name]
			seen, complete = true, complete && ok
			one.value += used.MilliValue()
		}
		if container != "" && !seen {
			return fail(fmt.Errorf("failed to get container metrics: container %s not present in metrics for pod %s/%s", container, m.Metadata.Namespace, m.Metadata.Name))
		}
		if complete {
			r.pods[m.Metadata.Name] = one
		}
	}
	return r
}

// pods is a metric of each pod.
func (s *source) pods(ctx context.Context, namespace string, pods labels.Selector, m autoscalingv2.MetricIdentifier) reading {
	fail := func(err error) reading {
		return reading{err: fmt.Errorf("unable to get metric %s: %w", m.Name, err)}
	}
	which, err := metav1.LabelSelectorAsSelector(orEverything(m.Selector))
	if err != nil {
		return reading{err: err, spec: true}
	}
	list, err := s.customs(ctx, "pods", []string{"namespaces", namespace, "pods", "*", m.Name},
		map[string]string{"labelSelector": pods.String(), "metricLabelSelector": which.String()})
	if err != nil {
		return fail(err)
	}
	if len(list.Items) == 0 {
		return fail(errors.New("no metrics returned from custom metrics API"))
	}
	r := reading{pods: make(map[string]sample, len(list.Items))}
	for _, v := range list.Items {
		one := sample{value: v.Value.MilliValue(), at: v.Timestamp.Time, window: defaultWindow}
		for _, w := range []*int64{v.Window, v.WindowSeconds} {
			if w != nil {
				one.window = time.Duration(*w) * time.Second
			}
		}
		r.pods[v.DescribedObject.Name] = one
	}
	return r
}

// object is a metric of one object, which is of the autoscaler's namespace or that itself.
func (s *source) object(ctx context.Context, namespace string, m *autoscalingv2.ObjectMetricSource, kinds *targets) reading {
	o := m.DescribedObject
	fail := func(err error) reading {
		return reading{err: fmt.Errorf("unable to get metric %s: %s on %s %s/%w", m.Metric.Name, o.Kind, namespace, o.Name, err)}
	}
	which, err := metav1.LabelSelectorAsSelector(orEverything(m.Metric.Selector))
	if err != nil {
		return reading{err: err, spec: true}
	}
	path, what := []string{"namespaces", namespace, "metrics", m.Metric.Name}, "namespaces"
	if gv, err := schema.ParseGroupVersion(o.APIVersion); err != nil || gv.Group != "" || o.Kind != "Namespace" {
		if what, err = kinds.resource(ctx, o.APIVersion, o.Kind); err != nil {
			return fail(fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err))
		}
		path = []string{"namespaces", namespace, what, o.Name, m.Metric.Name}
	}
	list, err := s.customs(ctx, what, path, map[string]string{"metricLabelSelector": which.String()})
	if err != nil {
		return fail(err)
	}
	if len(list.Items) != 1 {
		return fail(fmt.Errorf("unable to fetch metrics from custom metrics API: the custom metrics API server returned %d results when we asked for exactly one", len(list.Items)))
	}
	return reading{value: list.Items[0].Value.MilliValue()}
}

// external is the sum of all values of a metric of something that is not in the cluster.
func (s *source) external(ctx context.Context, namespace string, m autoscalingv2.MetricIdentifier) reading {
	which, err := metav1.LabelSelectorAsSelector(orEverything(m.Selector))
	if err != nil {
		return reading{err: err, spec: true}
	}
	fail := func(err error) reading {
		return reading{err: fmt.Errorf("unable to get external metric %s/%s/%+v: %w", namespace, m.Name, m.Selector, err)}
	}
	var list values
	err = s.get(ctx, schema.GroupVersionResource{Group: externalGroup, Version: metricsV1, Resource: m.Name}, []string{"namespaces", namespace, m.Name},
		map[string]string{"labelSelector": which.String()}, &list)
	if err != nil {
		return fail(fmt.Errorf("unable to fetch metrics from external metrics API: %w", err))
	}
	if len(list.Items) == 0 {
		return fail(errors.New("no metrics returned from external metrics API"))
	}
	var r reading
	for _, v := range list.Items {
		r.value = plus(r.value, v.Value.MilliValue())
	}
	return r
}

// customs asks custom.metrics.k8s.io in the version that is served; which one, is found out anew after an error.
func (s *source) customs(ctx context.Context, what string, path []string, query map[string]string) (values, error) {
	var list values
	version, err := s.customVersion(ctx)
	if err == nil {
		err = s.get(ctx, schema.GroupVersionResource{Group: customGroup, Version: version, Resource: what}, path, query, &list)
	}
	if err != nil {
		s.mu.Lock()
		s.custom = ""
		s.mu.Unlock()
		return list, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	return list, nil
}

func (s *source) customVersion(ctx context.Context) (string, error) {
	s.mu.Lock()
	known := s.custom
	s.mu.Unlock()
	if known != "" {
		return known, nil
	}
	offered, err := s.versions(ctx, customGroup)
	if err != nil {
		return "", err
	}
	for _, v := range []string{"v1beta2", metricsV1} {
		if slices.Contains(offered, v) {
			s.mu.Lock()
			s.custom = v
			s.mu.Unlock()
			return v, nil
		}
	}
	return "", errors.New("no custom metrics API (custom.metrics.k8s.io) registered")
}

// nothingThere is what the API server says of a path that nobody serves, without saying of what.
const nothingThere = "the server could not find the requested resource"

// get asks for a list. Whoever serves metrics, an error of theirs reads as other errors of the API do.
func (s *source) get(ctx context.Context, r schema.GroupVersionResource, path []string, query map[string]string, into any) error {
	req := s.rest.Get().AbsPath(append([]string{"/apis", r.Group, r.Version}, path...)...).SetHeader("Accept", runtime.ContentTypeJSON)
	for k, v := range query {
		if v != "" {
			req = req.Param(k, v)
		}
	}
	result, code := req.Do(ctx), 0
	body, err := result.StatusCode(&code).Raw()
	if err != nil {
		var status *apierrors.StatusError
		if code == 0 || !errors.As(err, &status) {
			return err
		}
		var told metav1.Status
		if json.Unmarshal(body, &told) == nil && told.Kind == "Status" && told.Message != "" && told.Message != nothingThere {
			return &apierrors.StatusError{ErrStatus: told}
		}
		return apierrors.NewGenericServerResponse(code, "get", r.GroupResource(), "", string(body), 0, true)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", r.Group, err)
	}
	return nil
}

// orEverything is a metric's selector; none selects all series of the metric.
func orEverything(s *metav1.LabelSelector) *metav1.LabelSelector {
	if s == nil {
		return &metav1.LabelSelector{}
	}
	return s
}
