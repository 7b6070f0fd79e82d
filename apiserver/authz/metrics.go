package authz

import "github.com/prometheus/client_golang/prometheus"

// Metrics count decisions, named as Kubernetes users know them. A nil one counts nothing.
type Metrics struct {
	decisions *prometheus.CounterVec
	attempts  [3]prometheus.Counter // by Decision
	failed    prometheus.Counter
}

// NewMetrics makes and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_authorization_decisions_total", Help: "Decisions of an authorizer, by its type and name, that allowed or denied.",
	}, []string{"type", "name", "decision"})}
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authorization_attempts_total", Help: "Requests that were authorized, by result.",
	}, []string{"result"})
	m.attempts = [3]prometheus.Counter{
		NoOpinion: attempts.WithLabelValues("no-opinion"), Allowed: attempts.WithLabelValues("allowed"), Denied: attempts.WithLabelValues("denied"),
	}
	m.failed = attempts.WithLabelValues("error")
	reg.MustRegister(m.decisions, attempts)
	return m
}

func (m *Metrics) attempt(v Verdict) {
	switch {
	case m == nil:
	case v.Err != nil && v.Decision != Allowed:
		m.failed.Inc()
	default:
		m.attempts[v.Decision].Inc()
	}
}

// link is a source and what counts its decisions.
type link struct {
	source          Source
	allowed, denied prometheus.Counter // nil: not counted
}

func (m *Metrics) link(n Named) link {
	if m == nil {
		return link{source: n.Source}
	}
	return link{n.Source, m.decisions.WithLabelValues(n.Type, n.Name, "allowed"), m.decisions.WithLabelValues(n.Type, n.Name, "denied")}
}

func (l *link) count(d Decision) {
	switch {
	case l.allowed == nil:
	case d == Allowed:
		l.allowed.Inc()
	default:
		l.denied.Inc()
	}
}
