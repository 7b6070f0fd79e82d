package loop

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

// Metrics are the workqueue_* families, shared by all loops of a process.
type Metrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	waiting, working           *prometheus.HistogramVec
}

// NewMetrics makes the families and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"name"})
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"name"})
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(1e-6, 10, 9),
		}, []string{"name"})
	}
	m := &Metrics{
		depth:      gauge("workqueue_depth", "Keys waiting in the queue."),
		unfinished: gauge("workqueue_unfinished_work_seconds", "Seconds of work in progress that no other metric has seen yet."),
		longest:    gauge("workqueue_longest_running_processor_seconds", "Seconds the longest running worker has been at its key."),
		adds:       counter("workqueue_adds_total", "Keys added."),
		retries:    counter("workqueue_retries_total", "Keys put back after a failure."),
		waiting:    histogram("workqueue_queue_duration_seconds", "Seconds a key waits before it is worked on."),
		working:    histogram("workqueue_work_duration_seconds", "Seconds the work on a key takes."),
	}
	reg.MustRegister(m.depth, m.unfinished, m.longest, m.adds, m.retries, m.waiting, m.working)
	return m
}

// provider is nil-safe: without metrics the queue counts nothing.
func (m *Metrics) provider() workqueue.MetricsProvider {
	if m == nil {
		return nil
	}
	return provider{m}
}

type provider struct{ m *Metrics }

func (p provider) NewDepthMetric(n string) workqueue.GaugeMetric { return p.m.depth.WithLabelValues(n) }
func (p provider) NewAddsMetric(n string) workqueue.CounterMetric {
	return p.m.adds.WithLabelValues(n)
}
func (p provider) NewLatencyMetric(n string) workqueue.HistogramMetric {
	return p.m.waiting.WithLabelValues(n)
}
func (p provider) NewWorkDurationMetric(n string) workqueue.HistogramMetric {
	return p.m.working.WithLabelValues(n)
}
func (p provider) NewUnfinishedWorkSecondsMetric(n string) workqueue.SettableGaugeMetric {
	return p.m.unfinished.WithLabelValues(n)
}
func (p provider) NewLongestRunningProcessorSecondsMetric(n string) workqueue.SettableGaugeMetric {
	return p.m.longest.WithLabelValues(n)
}
func (p provider) NewRetriesMetric(n string) workqueue.CounterMetric {
	return p.m.retries.WithLabelValues(n)
}
