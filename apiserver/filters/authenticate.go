package filters

import (
	"net/http"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

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
				handlers.WriteError(w, r, apierrors.NewUnauthorized("Unauthorized"))
				return
			}
			request.SetUser(r.Context(), u)
			next.ServeHTTP(w, r)
		})
	}
}
