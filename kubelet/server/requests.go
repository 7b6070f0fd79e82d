package server

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pilothouse.dev/kubelet/access"
)

// requests counts what is asked of the kubelet, by the names of upstream's.
type requests struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inflight *prometheus.GaugeVec
}

func newRequests() *requests {
	labels := []string{"long_running", "method", "path", "server_type"}
	return &requests{
		total:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_http_requests_total", Help: "Number of the http requests received since the server started"}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubelet_http_requests_duration_seconds", Help: "Duration in seconds to serve http requests", Buckets: prometheus.DefBuckets}, labels),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_http_inflight_requests", Help: "Number of the inflight http requests"}, labels),
	}
}

// Collectors are the metrics of the door.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.requests.total, s.requests.duration, s.requests.inflight}
}

// count counts a request from its beginning to its end.
func (c *requests) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		if first, _, deeper := strings.Cut(path, "/"); deeper && first != "metrics" { // names of pods are no labels
			path = first
		}
		if !counted[path] {
			path = "other"
		}
		labels := []string{strconv.FormatBool(long(r, path)), r.Method, path, "readwrite"}
		if !methods[r.Method] {
			labels[1] = "other"
		}
		c.total.WithLabelValues(labels...).Inc()
		c.inflight.WithLabelValues(labels...).Inc()
		begin := time.Now()
		defer func() {
			c.inflight.WithLabelValues(labels...).Dec()
			c.duration.WithLabelValues(labels...).Observe(time.Since(begin).Seconds())
		}()
		next.ServeHTTP(w, r)
	})
}

// long requests last as long as their client wants.
func long(r *http.Request, path string) bool {
	return access.Stream(r) || path == "containerLogs" && truth(r.URL.Query().Get("follow"))
}

// counted are the paths that have a row of their own; whoever asks for others does not fill the memory with them.
var counted = map[string]bool{
	"containerLogs": true, "exec": true, "attach": true, "portForward": true, "run": true, "pods": true, "runningpods": true, "stats": true, "metrics": true,
	"metrics/resource": true, "metrics/cadvisor": true, "metrics/probes": true, "healthz": true, "livez": true, "readyz": true, "configz": true,
	"logs": true, "debug": true,
}

var methods = map[string]bool{http.MethodGet: true, http.MethodPost: true, http.MethodHead: true, http.MethodPut: true, http.MethodDelete: true}
