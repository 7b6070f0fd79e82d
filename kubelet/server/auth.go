package server

import (
	"net/http"
	"slices"
)

// allow lets in who shows a certificate of the cluster with an allowed name or group.
func (s *Server) allow(next http.Handler) http.Handler {
	return handler(func(w http.ResponseWriter, r *http.Request) error {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			return fail(http.StatusUnauthorized, "a client certificate of the cluster is needed here")
		}
		who := r.TLS.VerifiedChains[0][0].Subject
		if !slices.Contains(s.cfg.AllowedNames, who.CommonName) &&
			!slices.ContainsFunc(who.Organization, func(o string) bool { return slices.Contains(s.cfg.AllowedGroups, o) }) {
			return fail(http.StatusForbidden, "%q may not use this kubelet", who.CommonName)
		}
		next.ServeHTTP(w, r)
		return nil
	})
}
