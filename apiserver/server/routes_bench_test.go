package server

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/mux"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/request"
)

// What a resource's path costs that the filters have parsed: by the router, and as routes does it.
func BenchmarkRoute(b *testing.B) {
	nothing := func(http.ResponseWriter, *http.Request) {}
	router := mux.NewRouter().SkipClean(true)
	router.PathPrefix("/api/{version}/{resource}").HandlerFunc(nothing)
	router.PathPrefix("/apis/{group}/{version}/{resource}").HandlerFunc(nothing)
	r := httptest.NewRequest(http.MethodGet, "/apis/apps/v1/namespaces/default/deployments/web", nil)
	r = r.WithContext(request.Begin(r.Context(), request.Parse(r), zap.NewNop(), nil))
	w := httptest.NewRecorder()
	b.Run("router", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			router.ServeHTTP(w, r)
		}
	})
	b.Run("parsed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if request.InfoOf(r.Context()).IsResource {
				nothing(w, r)
			}
		}
	})
}
