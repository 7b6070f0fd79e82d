package probes

import (
	"github.com/prometheus/client_golang/prometheus"
)

// The names, labels and values of the metrics are those of https://kubernetes.io/docs/reference/instrumentation/metrics/ (prober_*).
const (
	successful  = "successful"
	failed      = "failed"
	undecidable = "unknown"
)

type metrics struct {
	registry *prometheus.Registry
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics() metrics {
	m := metrics{
		registry: prometheus.NewRegistry(),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "prober_probe_total",
			Help: "Cumulative number of a liveness, readiness or startup probe for a container by result."},
			[]string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "prober_probe_duration_seconds",
			Help: "Duration in seconds for a probe response."}, []string{"probe_type", "container", "pod", "namespace"}),
	}
	m.registry.MustRegister(m.total, m.duration)
	return m
}

// drop forgets the numbers of a probe that is over.
func (m metrics) drop(kind Kind, uid string, t Target) {
	for _, result := range []string{successful, failed, undecidable} {
		m.total.DeleteLabelValues(string(kind), result, t.Container.Name, t.Pod, t.Namespace, uid)
	}
	m.duration.DeleteLabelValues(string(kind), t.Container.Name, t.Pod, t.Namespace)
}

// Gatherer has the metrics of /metrics/probes.
func (p *Prober) Gatherer() prometheus.Gatherer { return p.metrics.registry }
