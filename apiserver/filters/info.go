package filters

import (
	"net/http"
	"strings"

	"go.uber.org/zap"

	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/logging"
)

// Info parses the request once, and puts on its context what all others read: the request.Info, a logger with its fields,
// and where warnings go.
func Info(p Parts) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			i := request.Parse(r)
			ctx := request.WithInfo(r.Context(), i)
			ctx = logging.Into(ctx, p.Log.With(zap.String("path", i.Path), zap.String("method", r.Method)))
			ctx = request.WithWarnings(ctx, func(text string) {
				w.Header().Add("Warning", `299 - "`+escape(text)+`"`)
			})
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

// escape makes text a quoted string of a header (RFC 9110 section 5.6.4).
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ", "\r", " ").Replace(text)
}
