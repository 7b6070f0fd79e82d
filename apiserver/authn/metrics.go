package authn

import (
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/request"
)

// metrics are named as Kubernetes users know them (https://kubernetes.io/docs/reference/instrumentation/metrics/). Every series is
// made at start: none is named by what a caller says.
type metrics struct {
	users    map[string]prometheus.Counter
	attempts [3]prometheus.Counter  // by result
	took     [3]prometheus.Observer // by result

	certificate               prometheus.Observer // what is left of a certificate's life
	cacheHit, cacheMiss       prometheus.Counter
	hitTook, missTook         prometheus.Observer
	fetching                  prometheus.Gauge
	fetchOK, fetchError       prometheus.Counter
	valid, stale              prometheus.Counter // tokens of service accounts
	legacy                    prometheus.Counter
	legacyAuto, legacyManual  prometheus.Counter
	legacyInvalid             prometheus.Counter
	reloadsGood, reloadsWrong *prometheus.CounterVec // by file
}

// The results of an attempt.
const (
	success = iota // the caller is known, or nobody and may be
	failure        // he gave no proof
	wrong          // he gave one that does not hold
)

// The users that are told apart; all others count as one, or two.
var knownUsers = []string{"admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	users := vector("authenticated_user_requests", "Authenticated requests, by user, of whom only a few are told apart.", "username")
	attempts := vector("authentication_attempts", "Attempts to authenticate, by result.", "result")
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "authentication_duration_seconds", Help: "Time to authenticate, by result.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
	}, []string{"result"})
	reg.MustRegister(took)
	certificate := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "apiserver_client_certificate_expiration_seconds", Help: "What is left of the life of the certificate that a request is authenticated by.",
		Buckets: []float64{0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000, 31104000},
	})
	cacheTook := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "authentication_token_cache_request_duration_seconds", Help: "Time to find a token in the cache, or to check it, by whether it was there.",
	}, []string{"status"})
	fetching := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "authentication_token_cache_active_fetch_count", Help: "Tokens being checked because they were not in the cache.",
	}, []string{"status"})
	reg.MustRegister(certificate, cacheTook, fetching)
	requests := vector("authentication_token_cache_request_total", "Tokens looked for in the cache, by whether they were there.", "status")
	fetches := vector("authentication_token_cache_fetch_total", "Tokens checked because they were not in the cache, by result.", "status")
	reloads := vector("apiserver_authentication_ca_reloads_total", "Changes of files of client authorities, by whether they were taken.", "file", "status")
	m := &metrics{
		users:       map[string]prometheus.Counter{},
		certificate: certificate, fetching: fetching.WithLabelValues("in_flight"),
		hitTook: cacheTook.WithLabelValues("hit"), missTook: cacheTook.WithLabelValues("miss"),
		cacheHit: requests.WithLabelValues("hit"), cacheMiss: requests.WithLabelValues("miss"),
		fetchOK: fetches.WithLabelValues("ok"), fetchError: fetches.WithLabelValues("error"),
		valid:         counter("serviceaccount_valid_tokens_total", "Uses of valid projected service account tokens."),
		stale:         counter("serviceaccount_stale_tokens_total", "Uses of projected service account tokens that should have been renewed."),
		legacy:        counter("serviceaccount_legacy_tokens_total", "Uses of service account tokens kept in secrets."),
		legacyAuto:    counter("serviceaccount_legacy_auto_token_uses_total", "Uses of service account tokens kept in secrets that were made by themselves."),
		legacyManual:  counter("serviceaccount_legacy_manual_token_uses_total", "Uses of service account tokens kept in secrets that somebody made."),
		legacyInvalid: counter("serviceaccount_invalid_legacy_auto_token_uses_total", "Uses of service account tokens kept in secrets that are marked invalid."),
		reloadsGood:   reloads.MustCurryWith(prometheus.Labels{"status": "success"}),
		reloadsWrong:  reloads.MustCurryWith(prometheus.Labels{"status": "failure"}),
	}
	for _, u := range append([]string{"email_id", "other"}, knownUsers...) {
		m.users[u] = users.WithLabelValues(u)
	}
	for i, result := range []string{success: "success", failure: "failure", wrong: "error"} {
		m.attempts[i], m.took[i] = attempts.WithLabelValues(result), took.WithLabelValues(result)
	}
	return m
}

// attempt counts one.
func (m *metrics) attempt(u *request.User, err error, took time.Duration) {
	result := success
	switch {
	case errors.Is(err, errNobody):
		result = failure
	case err != nil:
		result = wrong
	default:
		m.user(u.Name).Inc()
	}
	m.attempts[result].Inc()
	m.took[result].Observe(took.Seconds())
}

func (m *metrics) user(name string) prometheus.Counter {
	if c, ok := m.users[name]; ok {
		return c
	}
	if strings.Contains(name, "@") {
		return m.users["email_id"]
	}
	return m.users["other"]
}

// reloaded hears of changes of a file of authorities.
func (a *Authenticator) reloaded(log *zap.Logger, name, file string) func(error) {
	return func(err error) {
		if err != nil {
			a.metrics.reloadsWrong.WithLabelValues(name).Inc()
			log.Error("a changed file of client authorities is not good, the former stays in force", zap.String("file", file), zap.Error(err))
			return
		}
		a.metrics.reloadsGood.WithLabelValues(name).Inc()
		log.Info("client authorities are read anew", zap.String("file", file))
	}
}
