package filters

import (
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/handlers"
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
func Deadline(p Parts, most time.Duration) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if LongRunning(request.InfoOf(r.Context())) {
				next.ServeHTTP(w, r)
				return
			}
			limit := most
			if strings.Contains(r.URL.RawQuery, "timeout") {
				d, err := asked(r)
				if err != nil {
					refused(p, w, r, func(w http.ResponseWriter, r *http.Request) { handlers.WriteError(w, r, err) }, "")
					return
				}
				if d > 0 && d < limit {
					limit = d
				}
			}
			defer request.Limit(r.Context(), limit)()
			next.ServeHTTP(w, r)
		})
	}
}

// asked is the timeout that a client names, 0 for none.
func asked(r *http.Request) (time.Duration, error) {
	s := r.URL.Query().Get("timeout")
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, apierrors.NewBadRequest("invalid timeout specified in the request URL - " + err.Error())
	}
	return d, nil
}
