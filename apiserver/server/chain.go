package server

import (
	"net/http"

	"pilothouse.dev/apiserver/filters"
)

// chain wraps the router. The first line runs first.
func chain(cfg Config, p filters.Parts, router http.Handler) http.Handler {
	order := []filters.Filter{
		filters.Recover(p),
		filters.Goaway(cfg.Goaway),
		filters.Info(p),
		filters.Stack(p),
		filters.Measure(p),
		filters.Deadline(p, cfg.RequestTimeout),
		filters.Authenticate(p),
		filters.Audit(p),
		filters.Impersonate(p),
		filters.FlowControl(p, cfg.RequestTimeout),
		filters.Authorize(p),
	}
	h := router
	for i := len(order) - 1; i >= 0; i-- {
		h = order[i](h)
	}
	return h
}
