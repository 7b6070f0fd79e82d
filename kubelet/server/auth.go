package server

import (
	"errors"
	"net/http"

	"go.uber.org/zap"

	"pilothouse.dev/kubelet/access"
)

// Access says who calls, and why he may not; "" when he may.
type Access interface {
	Who(r *http.Request) (access.User, error)
	May(r *http.Request, u access.User) (why string, err error)
}

// allow lets in who is known and may.
func (s *Server) allow(next http.Handler) http.Handler {
	return handler(func(w http.ResponseWriter, r *http.Request) error {
		who, err := s.parts.Access.Who(r)
		if errors.Is(err, access.ErrUnknown) {
			return fail(http.StatusUnauthorized, "Unauthorized")
		}
		if err != nil {
			s.log.Warn("cannot find out who calls", zap.Error(err))
			return fail(http.StatusUnauthorized, "Unauthorized")
		}
		why, err := s.parts.Access.May(r, who)
		if err != nil {
			return err
		}
		if why != "" {
			return fail(http.StatusForbidden, "%s", why)
		}
		next.ServeHTTP(w, r)
		return nil
	})
}
