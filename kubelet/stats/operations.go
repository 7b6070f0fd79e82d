package stats

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
)

// Operations is the container runtime with a clock beside it: what pods have it do is counted under upstream's names.
type Operations struct {
	*containers.Runtime

	total, failed *prometheus.CounterVec
	took          *prometheus.HistogramVec
	relisted      prometheus.Histogram
	interval      prometheus.Histogram
	pods          prometheus.Counter
	podErrors     *prometheus.CounterVec
	started       *prometheus.CounterVec
	startErrors   *prometheus.CounterVec

	mu   sync.Mutex
	last time.Time // when everything was listed; guarded by mu
}

// quick are bounds for what takes milliseconds here, and seconds when something is wrong.
var quick = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// anyKind is the container_type of all: the runtime is not told which are init containers.
const anyKind = "container"

// NewOperations puts the clock beside a runtime.
func NewOperations(rt *containers.Runtime) *Operations {
	op := []string{"operation_type"}
	return &Operations{
		Runtime:  rt,
		total:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_runtime_operations_total", Help: "Cumulative number of runtime operations by operation type."}, op),
		failed:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_runtime_operations_errors_total", Help: "Cumulative number of runtime operation errors by operation type."}, op),
		took:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubelet_runtime_operations_duration_seconds", Help: "Duration in seconds of runtime operations. Broken down by operation type.", Buckets: quick}, op),
		relisted: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pleg_relist_duration_seconds", Help: "Duration in seconds for listing all containers, which is done beside following the runtime's events.", Buckets: quick}),
		interval: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pleg_relist_interval_seconds", Help: "Interval in seconds between listings of all containers.", Buckets: []float64{.1, .5, 1, 5, 10, 20, 30, 40, 60, 120, 300}}),
		pods:     prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_started_pods_total", Help: "Cumulative number of pods started"}),
		podErrors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_started_pods_errors_total", Help: "Cumulative number of errors when starting pods"},
			[]string{}),
		started:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_started_containers_total", Help: "Cumulative number of containers started"}, []string{"container_type"}),
		startErrors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_started_containers_errors_total", Help: "Cumulative number of errors when starting containers"}, []string{"code", "container_type"}),
	}
}

// Collectors are the metrics.
func (o *Operations) Collectors() []prometheus.Collector {
	return []prometheus.Collector{o.total, o.failed, o.took, o.relisted, o.interval, o.pods, o.podErrors, o.started, o.startErrors}
}

// clock begins an operation; what it returns ends it.
func (o *Operations) clock(operation string) func(error) {
	begin := time.Now()
	o.total.WithLabelValues(operation).Inc()
	return func(err error) {
		o.took.WithLabelValues(operation).Observe(time.Since(begin).Seconds())
		if err != nil {
			o.failed.WithLabelValues(operation).Inc()
		}
	}
}

// CreateSandbox counts as the start of a pod.
func (o *Operations) CreateSandbox(ctx context.Context, spec containers.SandboxSpec) (containers.Sandbox, error) {
	end := o.clock("run_podsandbox")
	o.pods.Inc()
	s, err := o.Runtime.CreateSandbox(ctx, spec)
	if end(err); err != nil {
		o.podErrors.WithLabelValues().Inc()
	}
	return s, err
}

// RemoveSandbox is measured.
func (o *Operations) RemoveSandbox(ctx context.Context, id string) error {
	end := o.clock("remove_podsandbox")
	err := o.Runtime.RemoveSandbox(ctx, id)
	end(err)
	return err
}

// CreateContainer is measured.
func (o *Operations) CreateContainer(ctx context.Context, spec containers.ContainerSpec) (string, error) {
	end := o.clock("create_container")
	id, err := o.Runtime.CreateContainer(ctx, spec)
	if end(err); err != nil {
		o.startErrors.WithLabelValues("CreateContainerError", anyKind).Inc()
	}
	return id, err
}

// StartContainer is measured.
func (o *Operations) StartContainer(ctx context.Context, id string) error {
	end := o.clock("start_container")
	o.started.WithLabelValues(anyKind).Inc()
	err := o.Runtime.StartContainer(ctx, id)
	if end(err); err != nil {
		o.startErrors.WithLabelValues("RunContainerError", anyKind).Inc()
	}
	return err
}

// StopContainer is measured.
func (o *Operations) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	end := o.clock("stop_container")
	err := o.Runtime.StopContainer(ctx, id, grace)
	end(err)
	return err
}

// RemoveContainer is measured.
func (o *Operations) RemoveContainer(ctx context.Context, id string) error {
	end := o.clock("remove_container")
	err := o.Runtime.RemoveContainer(ctx, id)
	end(err)
	return err
}

// Exec is measured.
func (o *Operations) Exec(ctx context.Context, id string, spec containers.ExecSpec) (int, error) {
	end := o.clock("exec_sync")
	code, err := o.Runtime.Exec(ctx, id, spec)
	end(err)
	return code, err
}

// UpdateResources is measured.
func (o *Operations) UpdateResources(ctx context.Context, id string, res cgroups.Resources) error {
	end := o.clock("update_container")
	err := o.Runtime.UpdateResources(ctx, id, res)
	end(err)
	return err
}

// List counts as a relist.
func (o *Operations) List(ctx context.Context) (containers.Listing, error) {
	begin := time.Now()
	o.mu.Lock()
	if !o.last.IsZero() {
		o.interval.Observe(begin.Sub(o.last).Seconds())
	}
	o.last = begin
	o.mu.Unlock()
	end := o.clock("list_containers")
	l, err := o.Runtime.List(ctx)
	end(err)
	o.relisted.Observe(time.Since(begin).Seconds())
	return l, err
}

// ListPod is measured.
func (o *Operations) ListPod(ctx context.Context, uid string) (containers.Listing, error) {
	end := o.clock("container_status")
	l, err := o.Runtime.ListPod(ctx, uid)
	end(err)
	return l, err
}
