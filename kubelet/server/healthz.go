package server

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// serveHealth serves /healthz to this machine, without TLS, as installers and service managers ask for it. That it cannot listen is no reason to end:
// the door itself tells the same. Returned is what ends it.
func (s *Server) serveHealth() func() {
	if s.cfg.HealthzPort == 0 {
		return func() {}
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(s.cfg.HealthzAddress, strconv.Itoa(s.cfg.HealthzPort)))
	if err != nil {
		s.log.Warn("listening for health checks", zap.Error(err))
		return func() {}
	}
	m := http.NewServeMux()
	m.Handle("/healthz", s.parts.Checks.Live())
	srv := &http.Server{Handler: m, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idle, ErrorLog: zap.NewStdLog(s.log)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.log.Warn("serving health checks", zap.Error(err))
		}
	}()
	return func() {
		srv.Close()
		<-done
	}
}
