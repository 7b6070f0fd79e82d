package filters

import (
	"net/http"
	"strings"

	"pilothouse.dev/apiserver/request"
)

// Info parses the request once, and gives it the context that all others read: the request.Info, a logger with its fields, and
// where warnings go.
func Info(p Parts) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(request.Begin(r.Context(), request.Parse(r), p.Log, func(text string) {
				w.Header().Add("Warning", `299 - "`+escape(text)+`"`)
			})))
		})
	}
}

// escape makes text a quoted string of a header (RFC 9110 section 5.6.4).
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ", "\r", " ").Replace(text)
}
