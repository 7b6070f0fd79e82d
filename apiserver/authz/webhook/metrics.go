package webhook

import "github.com/prometheus/client_golang/prometheus"

// Metrics count questions to services. A nil one counts nothing.
type Metrics struct{ evaluations, open *prometheus.CounterVec }

// NewMetrics makes and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		evaluations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_authorization_webhook_evaluations_total", Help: "Questions to webhook authorizers, by their name and result.",
		}, []string{"name", "result"}),
		open: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_authorization_webhook_evaluations_fail_open_total",
			Help: "Questions to webhook authorizers that failed and were taken for no opinion.",
		}, []string{"name", "result"}),
	}
	reg.MustRegister(m.evaluations, m.open)
	return m
}

func (m *Metrics) evaluated(name, result string) {
	if m != nil {
		m.evaluations.WithLabelValues(name, result).Inc()
	}
}

func (m *Metrics) failedOpen(name string) {
	if m != nil {
		m.open.WithLabelValues(name, "error").Inc()
	}
}
