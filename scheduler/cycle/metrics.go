package cycle

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/queue"
)

// Metrics are the scheduler's numbers, named as those of kube-scheduler.
type Metrics struct {
	profile  string
	attempts *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sli      *prometheus.HistogramVec
	tries    prometheus.Histogram
	preempts prometheus.Counter
	victims  prometheus.Histogram
}

// The results of a trip.
const (
	scheduled     = "scheduled"
	unschedulable = "unschedulable"
	failed        = "error"
)

// NewMetrics makes the metrics of a scheduler name and registers them, together with the sizes of queue and cache.
func NewMetrics(reg prometheus.Registerer, profile string, q *queue.Queue, c *cache.Cache) *Metrics {
	m := &Metrics{
		profile: profile,
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_schedule_attempts_total", Help: "Attempts to schedule pods, by result."}, []string{"profile", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_scheduling_attempt_duration_seconds", Help: "From the queue to the end of the binding.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 20)}, []string{"profile", "result"}),
		sli: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_pod_scheduling_sli_duration_seconds", Help: "From first seen to scheduled.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 20)}, []string{"attempts"}),
		tries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scheduler_pod_scheduling_attempts", Help: "Attempts until a pod was scheduled.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 5)}),
		preempts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scheduler_preemption_attempts_total", Help: "Times that pods were evicted to make room for another."}),
		victims: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scheduler_preemption_victims", Help: "Pods evicted each time.", Buckets: prometheus.ExponentialBuckets(1, 2, 7)}),
	}
	reg.MustRegister(m.attempts, m.duration, m.sli, m.tries, m.preempts, m.victims, &sizes{
		queue: q, cache: c,
		pending: prometheus.NewDesc("scheduler_pending_pods", "Pods that want a node, by where they wait.", []string{"queue"}, nil),
		kept:    prometheus.NewDesc("scheduler_cache_size", "Nodes, pods and assumed pods in the cache.", []string{"type"}, nil),
	})
	return m
}

func (m *Metrics) attempt(result string, took time.Duration) {
	m.attempts.WithLabelValues(m.profile, result).Inc()
	m.duration.WithLabelValues(m.profile, result).Observe(took.Seconds())
}

func (m *Metrics) placed(attempts int, since time.Duration) {
	m.sli.WithLabelValues(strconv.Itoa(min(attempts, 16))).Observe(since.Seconds())
	m.tries.Observe(float64(attempts))
}

func (m *Metrics) preempted(victims int) {
	m.preempts.Inc()
	m.victims.Observe(float64(victims))
}

// sizes reads queue and cache when the metrics are asked for.
type sizes struct {
	queue         *queue.Queue
	cache         *cache.Cache
	pending, kept *prometheus.Desc
}

func (s *sizes) Describe(to chan<- *prometheus.Desc) {
	to <- s.pending
	to <- s.kept
}

func (s *sizes) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, label string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), label)
	}
	q := s.queue.Counts()
	gauge(s.pending, q.Active+q.InFlight, "active")
	gauge(s.pending, q.Backing, "backoff")
	gauge(s.pending, q.Waiting, "unschedulable")
	gauge(s.pending, q.Gated, "gated")
	nodes, pods, assumed := s.cache.Size()
	gauge(s.kept, nodes, "nodes")
	gauge(s.kept, pods, "pods")
	gauge(s.kept, assumed, "assumed_pods")
}
