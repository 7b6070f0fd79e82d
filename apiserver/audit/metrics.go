package audit

import (
	"github.com/prometheus/client_golang/prometheus"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// metrics are named as Kubernetes users know them.
type metrics struct {
	events   prometheus.Counter
	errors   *prometheus.CounterVec
	levels   map[auditv1.Level]prometheus.Counter
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
		levels: map[auditv1.Level]prometheus.Counter{},
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "apiserver_audit_requests_rejected_total", Help: "Requests refused because their audit event could not be written.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_audit_policy_automatic_reloads_total", Help: "Times that a changed policy file was read again, by success or failure.",
		}, []string{"status"}),
	}
	byLevel := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_audit_level_total", Help: "Requests by the level at which the policy records them.",
	}, []string{"level"})
	for _, level := range levels {
		m.levels[level] = byLevel.WithLabelValues(string(level))
	}
	reg.MustRegister(m.events, m.errors, byLevel, m.rejected, m.reloads)
	return m
}
