package server

import (
	"net/http"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pilothouse.dev/pkg/health"
)

// routes is every URL of the kubelet.
func (s *Server) routes() http.Handler {
	r := mux.NewRouter()
	r.Handle("/containerLogs/{namespace}/{pod}/{container}", s.debugging(s.logs)).Methods("GET")
	r.Handle("/exec/{namespace}/{pod}/{container}", s.debugging(s.exec)).Methods("GET", "POST")
	r.Handle("/exec/{namespace}/{pod}/{uid}/{container}", s.debugging(s.exec)).Methods("GET", "POST")
	r.Handle("/attach/{namespace}/{pod}/{container}", s.debugging(s.attach)).Methods("GET", "POST")
	r.Handle("/attach/{namespace}/{pod}/{uid}/{container}", s.debugging(s.attach)).Methods("GET", "POST")
	r.Handle("/portForward/{namespace}/{pod}", s.debugging(s.portForward)).Methods("GET", "POST")
	r.Handle("/portForward/{namespace}/{pod}/{uid}", s.debugging(s.portForward)).Methods("GET", "POST")
	r.Handle("/runningpods/", s.debugging(s.runningPods)).Methods("GET")
	r.Handle("/pods", handler(s.pods)).Methods("GET")
	r.Handle("/configz", handler(s.configz)).Methods("GET")
	r.Handle("/stats/summary", handler(s.summary)).Methods("GET", "POST")
	r.Handle("/metrics/resource", numbers(s.parts.Resources)).Methods("GET")
	r.Handle("/metrics/cadvisor", handler(s.containers)).Methods("GET")
	r.Handle("/metrics/probes", numbers(s.parts.Probes)).Methods("GET")
	if s.cfg.NodeLogs {
		r.PathPrefix("/logs/").Handler(handler(s.nodeLogs)).Methods("GET")
	}
	if !s.cfg.Profiling {
		r.PathPrefix("/debug/pprof/").Handler(http.NotFoundHandler())
	}
	r.PathPrefix("/").Handler(health.Mux(s.parts.Checks, s.parts.Metrics, nil)) // /healthz /livez /readyz /metrics /debug/pprof
	return s.requests.count(s.allow(r))
}

// numbers serves metrics; what cannot be gathered is left out, and nil has none.
func numbers(from prometheus.Gatherer) http.Handler {
	if from == nil {
		from = prometheus.NewRegistry()
	}
	return promhttp.HandlerFor(from, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// debugging serves a handler unless --enable-debugging-handlers says no.
func (s *Server) debugging(h handler) http.Handler {
	if s.cfg.Debugging {
		return h
	}
	return handler(func(http.ResponseWriter, *http.Request) error {
		return fail(http.StatusMethodNotAllowed, "Debug endpoints are disabled.")
	})
}
