// Package server is the HTTPS server: every URL in routes.go, the filters in order in chain.go, and here TLS, listening and
// draining. The chain wraps the router from outside, so that what matches no route is authenticated and counted as well.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/filters"
	"pilothouse.dev/apiserver/handlers"
	"pilothouse.dev/pkg/health"
	"pilothouse.dev/pkg/pki"
)

// Config is filled from flags.
type Config struct {
	Address        string // to listen on
	Port           int
	CertFile       string
	KeyFile        string
	RequestTimeout time.Duration
	DrainTimeout   time.Duration // how long running requests may take once we are told to stop
	Streams        int           // of one HTTP/2 connection at a time; 0: net/http's default
	Connections    int           // at a time; 0: three quarters of the files that the process may open
	Goaway         float64       // the probability that a request's HTTP/2 connection is to be replaced
}

// Docs serves the OpenAPI documents.
type Docs interface {
	ServeV2(w http.ResponseWriter, r *http.Request)
	ServeV3(w http.ResponseWriter, r *http.Request)
}

// Parts are what the server serves.
type Parts struct {
	Filters  filters.Parts
	Handlers *handlers.Handlers
	OpenAPI  Docs
	// Documents are further paths, as they are.
	Documents map[string]http.HandlerFunc
	Checks    *health.Checks
	Metrics   prometheus.Gatherer
	Register  prometheus.Registerer // for the server's own; nil: nowhere
	// Drain is called once when the server begins to stop: running watches are to end.
	Drain context.CancelFunc
}

// Server listens and serves. Run it once.
type Server struct {
	cfg     Config
	p       Parts
	log     *zap.Logger
	handler http.Handler
	refused prometheus.Counter // connections
}

// New wires routes and filters; nothing listens yet.
func New(cfg Config, p Parts, log *zap.Logger) *Server {
	s := &Server{cfg: cfg, p: p, log: log.Named("https"), refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "apiserver_connections_refused_total", Help: "Connections closed because as many as may be were open (--max-connections).",
	})}
	if p.Register != nil {
		p.Register.MustRegister(s.refused)
	}
	s.handler = chain(cfg, p.Filters, routes(p))
	return s
}

// Loopback is a client of this very server, as system:apiserver in system:masters: its requests pass the filters and routes
// in memory, with no connection and no credential. It cannot watch.
func (s *Server) Loopback() *rest.Config {
	return &rest.Config{Host: "https://" + net.JoinHostPort("localhost", strconv.Itoa(s.cfg.Port)), Transport: &loopback{s.handler}, QPS: -1}
}

// Run listens and serves until ctx ends, then drains: no new connections, watches end, the rest may finish.
func (s *Server) Run(ctx context.Context) error {
	files, err := pki.NewFiles(s.cfg.CertFile, s.cfg.KeyFile, "")
	if err != nil {
		return err
	}
	files.OnReload(func(err error) {
		if err != nil {
			s.log.Error("reading a renewed certificate, serving with the former one", zap.Error(err))
			return
		}
		s.log.Info("serving with a renewed certificate")
	})
	addr := net.JoinHostPort(s.cfg.Address, strconv.Itoa(s.cfg.Port))
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening on %s: %w (is another API server running, or the port taken?)", addr, err)
	}
	srv := &http.Server{
		Handler: s.handler, TLSConfig: files.AskingTLS(s.p.Filters.Who.Authorities), ConnContext: authn.Remember,
		ReadHeaderTimeout: 32 * time.Second, IdleTimeout: 3 * time.Minute, MaxHeaderBytes: 1 << 20,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: s.cfg.Streams, MaxReadFrameSize: 256 << 10,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, // a client that is gone without a word
			WriteByteTimeout: 30 * time.Second, // one that takes nothing from the wire
		},
		ErrorLog: zap.NewStdLog(s.log.WithOptions(zap.IncreaseLevel(zap.WarnLevel))),
	}
	if ln, err = s.bound(ln); err != nil {
		return err
	}
	s.log.Info("serving", zap.String("address", addr))
	ended := make(chan error, 1)
	go func() { ended <- srv.ServeTLS(ln, "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving on %s: %w", addr, err)
	case <-ctx.Done():
	}
	s.p.Drain()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		s.log.Warn("some requests did not finish in time and were cut", zap.Duration("allowed", s.cfg.DrainTimeout))
		if err := srv.Close(); err != nil {
			s.log.Warn("closing connections", zap.Error(err))
		}
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
