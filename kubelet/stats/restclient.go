package stats

import (
	"context"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/metrics"
)

// Requests to the API, as client-go counts them for the whole process.
var (
	apiRequests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rest_client_requests_total", Help: "Number of HTTP requests, partitioned by status code, method, and host."}, []string{"code", "host", "method"})
	apiDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rest_client_request_duration_seconds", Help: "Request latency in seconds. Broken down by verb, and host.",
		Buckets: []float64{.005, .025, .1, .25, .5, 1, 2, 4, 8, 15, 30, 60}}, []string{"host", "verb"})
)

// Client has client-go count its requests from now on, once a process, and returns the metrics.
func Client() []prometheus.Collector {
	metrics.Register(metrics.RegisterOpts{RequestResult: results{}, RequestLatency: latencies{}})
	return []prometheus.Collector{apiRequests, apiDuration}
}

type results struct{}

func (results) Increment(_ context.Context, code, method, host string) {
	apiRequests.WithLabelValues(code, host, method).Inc()
}

type latencies struct{}

func (latencies) Observe(_ context.Context, verb string, u url.URL, took time.Duration) {
	apiDuration.WithLabelValues(u.Host, verb).Observe(took.Seconds())
}
