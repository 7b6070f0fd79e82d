package filters

import (
	"net/http"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/handlers"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/logging"
)

// Authenticate puts the caller on the context, or answers 401.
func Authenticate(p Parts) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if request.UserOf(r.Context()) != nil {
				next.ServeHTTP(w, r) // from inside this process: no context from the network carries a user
				return
			}
			u, err := p.Who.User(r)
			if err != nil {
				logging.From(r.Context()).Debug("not authenticated", zap.Error(err))
				closeHTTP2(w, r)
				refused(p, w, r, func(w http.ResponseWriter, r *http.Request) {
					handlers.WriteError(w, r, apierrors.NewUnauthorized("Unauthorized"))
				}, attempted(r))
				return
			}
			if u.Name == authn.Anonymous {
				closeHTTP2(w, r)
			}
			request.SetUser(r.Context(), u)
			next.ServeHTTP(w, r)
		})
	}
}

// closeHTTP2 ends the connection after this answer: who does not say who he is shall not keep one that lets him begin and reset a
// thousand requests at next to no cost (CVE-2023-44487).
func closeHTTP2(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 {
		w.Header().Set("Connection", "close")
	}
}
