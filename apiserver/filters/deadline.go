package filters

import (
	"net/http"
	"strings"
	"time"

	"pilothouse.dev/apiserver/request"
)

// LongRunning says whether a request may take as long as it likes: watches, and streams into containers.
func LongRunning(i *request.Info) bool {
	if i.Verb == "watch" {
		return true
	}
	switch i.Subresource {
	case "log", "exec", "attach", "portforward", "proxy":
		return true
	}
	return false
}

// Deadline ends requests that take too long. A client may ask for less with ?timeout=.
func Deadline(most time.Duration) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if LongRunning(request.InfoOf(r.Context())) {
				next.ServeHTTP(w, r)
				return
			}
			limit := most
			if strings.Contains(r.URL.RawQuery, "timeout") {
				if d, err := time.ParseDuration(r.URL.Query().Get("timeout")); err == nil && d > 0 && d < limit {
					limit = d
				}
			}
			defer request.Limit(r.Context(), limit)()
			next.ServeHTTP(w, r)
		})
	}
}
