package audit

import "github.com/prometheus/client_golang/prometheus"

// metrics are named as Kubernetes users know them.
type metrics struct {
	events   prometheus.Counter
	errors   *prometheus.CounterVec
	levels   *prometheus.CounterVec
	rejected prometheus.Counter
	reloads  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "apiserver_audit_event_total", Help: "Audit events made and given to the sinks.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_audit_error_total", Help: "Audit events that were lost, by what lost them.",
		}, []string{"plugin"}),
		levels: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_audit_level_total", Help: "Requests by the level at which the policy records them.",
		}, []string{"level"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "apiserver_audit_requests_rejected_total", Help: "Requests refused because their audit event could not be written.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_audit_policy_automatic_reloads_total", Help: "Times that a changed policy file was read again, by success or failure.",
		}, []string{"status"}),
	}
	reg.MustRegister(m.events, m.errors, m.levels, m.rejected, m.reloads)
	return m
}
