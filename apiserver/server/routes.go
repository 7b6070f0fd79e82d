package server

import (
	"net/http"
	"path"
	"strings"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/handlers"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/health"
)

// routes is every URL. Resources are matched by shape, so a custom resource changes nothing here; they are most of all requests,
// and the filters have parsed their paths already: they do not go through the router (BenchmarkRoute says what that saves).
func routes(p Parts) http.Handler {
	h := p.Handlers
	r := mux.NewRouter().SkipClean(true)
	r.NotFoundHandler = http.HandlerFunc(handlers.NotFound)

	both(r, "/api", h.Groups(true))
	both(r, "/apis", h.Groups(false))
	both(r, "/api/{version}", func(w http.ResponseWriter, q *http.Request) {
		h.GroupVersion(w, q, schema.GroupVersion{Version: mux.Vars(q)["version"]})
	})
	both(r, "/apis/{group}", func(w http.ResponseWriter, q *http.Request) { h.Group(w, q, mux.Vars(q)["group"]) })
	both(r, "/apis/{group}/{version}", func(w http.ResponseWriter, q *http.Request) {
		v := mux.Vars(q)
		h.GroupVersion(w, q, schema.GroupVersion{Group: v["group"], Version: v["version"]})
	})

	r.Path("/version").HandlerFunc(handlers.Version)
	r.Path("/version/").HandlerFunc(handlers.Version)
	r.Path("/openapi/v2").HandlerFunc(p.OpenAPI.ServeV2)
	r.PathPrefix("/openapi/v3").HandlerFunc(p.OpenAPI.ServeV3)
	for at, document := range p.Documents { // of the issuer of tokens
		r.Path(at).HandlerFunc(document)
	}

	side := asWritten(health.Mux(p.Checks, p.Metrics, nil)) // the filters have asked who may
	for _, at := range []string{"/healthz", "/livez", "/readyz", "/debug/pprof"} {
		r.PathPrefix(at).Handler(side)
	}
	r.Path("/metrics").Handler(promhttp.HandlerFor(p.Metrics, promhttp.HandlerOpts{}))

	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if i := request.InfoOf(q.Context()); i.IsResource { // /api/{version}/{resource}… and /apis/{group}/{version}/{resource}…
			h.Resource(w, q)
			return
		}
		r.ServeHTTP(w, q)
	})
}

// asWritten keeps paths from a handler that would clean them: what was authorized is the path as it was sent.
func asWritten(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; path.Clean(p) != strings.TrimSuffix(p, "/") {
			handlers.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// both serves a path with and without a slash at its end.
func both(r *mux.Router, path string, f http.HandlerFunc) {
	r.Path(path).HandlerFunc(f)
	r.Path(path + "/").HandlerFunc(f)
}
