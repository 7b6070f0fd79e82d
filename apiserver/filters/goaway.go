package filters

import (
	"math/rand/v2"
	"net/http"
)

// Goaway asks an HTTP/2 client now and then, with a probability, to open a new connection, so that clients spread over all servers behind a load
// balancer again. Requests that run on the old one are not cut.
func Goaway(chance float64) Filter {
	return func(next http.Handler) http.Handler {
		if chance <= 0 {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 && rand.Float64() < chance {
				w.Header().Set("Connection", "close") // net/http sends GOAWAY
			}
			next.ServeHTTP(w, r)
		})
	}
}
