package server

import (
	"net/http"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pilothouse.dev/pkg/health"
)

// routes is every URL of the kubelet.
func (s *Server) routes() http.Handler {
	r := mux.NewRouter()
	r.Handle("/containerLogs/{namespace}/{pod}/{container}", handler(s.logs)).Methods("GET")
	r.Handle("/exec/{namespace}/{pod}/{container}", handler(s.exec)).Methods("GET", "POST")
	r.Handle("/exec/{namespace}/{pod}/{uid}/{container}", handler(s.exec)).Methods("GET", "POST")
	r.Handle("/attach/{namespace}/{pod}/{container}", handler(s.attach)).Methods("GET", "POST")
	r.Handle("/attach/{namespace}/{pod}/{uid}/{container}", handler(s.attach)).Methods("GET", "POST")
	r.Handle("/portForward/{namespace}/{pod}", handler(s.portForward)).Methods("GET", "POST")
	r.Handle("/portForward/{namespace}/{pod}/{uid}", handler(s.portForward)).Methods("GET", "POST")
	r.Handle("/pods", handler(s.pods)).Methods("GET")
	r.Handle("/stats/summary", handler(s.summary)).Methods("GET")
	r.Handle("/metrics/resource", promhttp.HandlerFor(s.parts.Resources, promhttp.HandlerOpts{})).Methods("GET")
	r.PathPrefix("/").Handler(health.Mux(s.parts.Checks, s.parts.Metrics, nil)) // /healthz /livez /readyz /metrics /debug/pprof
	return s.allow(r)
}
