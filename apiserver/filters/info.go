package filters

import (
	"net/http"

	"pilothouse.dev/apiserver/request"
)

// Info parses the request once, and gives it the context that all others read: the request.Info, a logger with its fields,
// where warnings go, and the ID by which audit knows the request.
func Info(p Parts) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			told := &warnings{to: w}
			ctx := request.Begin(r.Context(), request.Parse(r), p.Log, told.add)
			request.Identify(ctx, r.Header, w.Header())
			if p.Audit.On() {
				request.Listen(ctx)
			}
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}
