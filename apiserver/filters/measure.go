package filters

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
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

	mu    sync.RWMutex
	known map[line]*series // guarded by mu; as many as there are series
	real  map[line]bool    // guarded by mu: what exists, as lines without verb and code
}

// line is the labels of a request.
type line struct {
	verb, group, version, resource, subresource string
	code                                        int
}

type series struct {
	requests prometheus.Counter
	duration prometheus.Observer // shared by all codes
}

// NewMetrics makes and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		known: map[line]*series{}, real: map[line]bool{},
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
			rec, ended := &recorder{ResponseWriter: w}, false
			defer func() {
				if !ended && rec.code == 0 { // it panics: Recover will answer so
					rec.code = http.StatusInternalServerError
				}
				p.Metrics.done(i, rec.status(), time.Since(start))
				if p.Log.Core().Enabled(zap.DebugLevel) {
					logging.From(r.Context()).Debug("request", zap.Int("code", rec.status()), zap.Duration("took", time.Since(start)),
						zap.String("agent", r.UserAgent()))
				}
			}()
			next.ServeHTTP(rec, r)
			ended = true
		})
	}
}

func (m *Metrics) done(i *request.Info, code int, took time.Duration) {
	s := m.of(m.lineOf(i, code))
	s.requests.Inc()
	if i.Verb != "watch" {
		s.duration.Observe(took.Seconds())
	}
}

// lineOf leaves out the words that anybody may put into a request that is then refused: they must not become series. Only what was
// once answered well is known to exist.
func (m *Metrics) lineOf(i *request.Info, code int) line {
	l := line{verb: i.Verb, code: code}
	if !slices.Contains(verbs, l.verb) {
		l.verb = "other"
	}
	if !i.IsResource {
		return l
	}
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return l
	}
	if code >= http.StatusBadRequest && !m.exists(i) {
		return l
	}
	l.group, l.version, l.resource, l.subresource = i.Group, i.Version, i.Resource, i.Subresource
	return l
}

func (m *Metrics) exists(i *request.Info) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.real[line{group: i.Group, version: i.Version, resource: i.Resource, subresource: i.Subresource}]
}

var verbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "head", "post", "put"}

// of finds the series of a line. A vector would do by itself, but hashes six labels and checks them twice a request.
func (m *Metrics) of(l line) *series {
	m.mu.RLock()
	s := m.known[l]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	s = &series{
		requests: m.requests.WithLabelValues(l.verb, l.group, l.version, l.resource, l.subresource, strconv.Itoa(l.code)),
		duration: m.duration.WithLabelValues(l.verb, l.group, l.version, l.resource, l.subresource),
	}
	m.mu.Lock()
	m.known[l] = s
	if l.resource != "" {
		m.real[line{group: l.group, version: l.version, resource: l.resource, subresource: l.subresource}] = true
	}
	m.mu.Unlock()
	return s
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
