package filters

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/logging"
)

// Metrics are the request metrics, named as Kubernetes users know them.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inflight *prometheus.GaugeVec
}

// NewMetrics makes and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total", Help: "Requests answered, by verb, group, version, resource, subresource and code.",
		}, []string{"verb", "group", "version", "resource", "subresource", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_request_duration_seconds", Help: "Time to answer, but for watches.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"verb", "group", "version", "resource", "subresource"}),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_current_inflight_requests", Help: "Requests being answered, watches not counted.",
		}, []string{"request_kind"}),
	}
	reg.MustRegister(m.requests, m.duration, m.inflight)
	return m
}

// Measure counts and logs every request. It stands outside all that may refuse one, and reads what the inner filters found.
func Measure(p Parts) Filter {
	mutating := p.Metrics.inflight.WithLabelValues("mutating")
	reading := p.Metrics.inflight.WithLabelValues("readOnly")
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			i := request.InfoOf(r.Context())
			start := time.Now()
			gauge := reading
			switch r.Method {
			case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
				gauge = mutating
			}
			if i.Verb != "watch" {
				gauge.Inc()
				defer gauge.Dec()
			}
			rec := &recorder{ResponseWriter: w}
			defer func() {
				p.Metrics.done(i, rec.status(), time.Since(start))
				if ce := logging.From(r.Context()).Check(zap.DebugLevel, "request"); ce != nil {
					ce.Write(zap.String("verb", i.Verb), zap.Int("code", rec.status()), zap.Duration("took", time.Since(start)),
						zap.String("agent", r.UserAgent()))
				}
			}()
			next.ServeHTTP(rec, r)
		})
	}
}

func (m *Metrics) done(i *request.Info, code int, took time.Duration) {
	verb, resource, sub := i.Verb, i.Resource, i.Subresource
	if !i.IsResource {
		resource, sub = "", ""
	}
	if code == http.StatusNotFound && resource != "" {
		resource, sub = "", "" // any word may stand in such a path: it must not become a series
	}
	group, version := i.Group, i.Version
	if resource == "" {
		group, version = "", ""
	}
	m.requests.WithLabelValues(verb, group, version, resource, sub, strconv.Itoa(code)).Inc()
	if verb != "watch" {
		m.duration.WithLabelValues(verb, group, version, resource, sub).Observe(took.Seconds())
	}
}

// recorder notes the status that went out.
type recorder struct {
	http.ResponseWriter
	code int
}

func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) status() int {
	if r.code == 0 {
		return http.StatusOK
	}
	return r.code
}

// Unwrap lets http.ResponseController find the real writer (flush, hijack, deadlines).
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
