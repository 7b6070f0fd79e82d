// Package health is the small server beside a daemon's work: /livez, /readyz and /healthz from named checks, /metrics and
// /debug/pprof. Health is open to everybody; metrics and profiles want a client certificate of the cluster when the server
// has a client authority. The API server mounts Handler's parts into its own server instead.
package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"

	"pilothouse.dev/pkg/pki"
)

// Config is filled from flags.
type Config struct {
	Address      string // host:port; empty: no server
	CertFile     string // empty: plain HTTP, allowed on loopback only
	KeyFile      string
	ClientCAFile string
}

// Check says nil when the named thing is well. It must return soon.
type Check func(context.Context) error

// Checks are the named checks of a daemon. Safe for concurrent use.
type Checks struct {
	mu    sync.Mutex
	live  []named // guarded by mu
	ready []named // guarded by mu
}

type named struct {
	name  string
	check Check
}

// AddReady adds a check to /readyz.
func (c *Checks) AddReady(name string, check Check) { c.add(&c.ready, name, check) }

// AddLive adds a check to /livez (and /healthz): only what a restart would mend belongs there.
func (c *Checks) AddLive(name string, check Check) { c.add(&c.live, name, check) }

func (c *Checks) add(to *[]named, name string, check Check) {
	c.mu.Lock()
	*to = append(*to, named{name, check})
	c.mu.Unlock()
}

// Live and Ready are the handlers of /livez and /readyz, in the form Kubernetes users know: "ok", or with ?verbose or on
// failure one line a check. A path below names one check; ?exclude=NAME leaves one out.
func (c *Checks) Live() http.Handler  { return c.handler("livez", &c.live) }
func (c *Checks) Ready() http.Handler { return c.handler("readyz", &c.ready) }

func (c *Checks) handler(title string, which *[]named) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		checks := slices.Clone(*which)
		c.mu.Unlock()
		_, only, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		excluded := r.URL.Query()["exclude"]
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		var b strings.Builder
		failed, seen := false, false
		for _, n := range checks {
			if only != "" && only != n.name {
				continue
			}
			seen = true
			if slices.Contains(excluded, n.name) {
				fmt.Fprintf(&b, "[+]%s excluded: ok\n", n.name)
				continue
			}
			if err := n.check(ctx); err != nil {
				failed = true
				fmt.Fprintf(&b, "[-]%s failed: %v\n", n.name, err)
				continue
			}
			fmt.Fprintf(&b, "[+]%s ok\n", n.name)
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache, private")
		switch {
		case only != "" && !seen:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, "no check is named %q\n", only)
		case failed:
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, "%s%s check failed\n", b.String(), title)
		case r.URL.Query().Has("verbose"):
			fmt.Fprintf(w, "%s%s check passed\n", b.String(), title)
		default:
			fmt.Fprint(w, "ok")
		}
	})
}

// Mux serves the checks, the metrics of reg and the profiles. allow guards metrics and profiles; nil lets everybody in.
func Mux(c *Checks, reg prometheus.Gatherer, allow func(*http.Request) bool) *http.ServeMux {
	m := http.NewServeMux()
	for _, p := range []string{"/livez", "/livez/", "/healthz", "/healthz/"} {
		m.Handle(p, c.Live())
	}
	m.Handle("/readyz", c.Ready())
	m.Handle("/readyz/", c.Ready())
	guard := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if allow != nil && !allow(r) {
				http.Error(w, "a client certificate of the cluster is needed here", http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	m.Handle("/metrics", guard(promhttp.HandlerFor(reg, promhttp.HandlerOpts{})))
	m.Handle("/debug/pprof/", guard(http.HandlerFunc(pprof.Index)))
	m.Handle("/debug/pprof/profile", guard(http.HandlerFunc(pprof.Profile)))
	m.Handle("/debug/pprof/symbol", guard(http.HandlerFunc(pprof.Symbol)))
	m.Handle("/debug/pprof/trace", guard(http.HandlerFunc(pprof.Trace)))
	return m
}

// Server serves Mux for daemons that have no other server.
type Server struct {
	cfg    Config
	checks *Checks
	reg    prometheus.Gatherer
}

// New makes a server; nothing listens yet. reg nil means the process's default registry.
func New(cfg Config, checks *Checks, reg prometheus.Gatherer) *Server {
	if reg == nil {
		reg = prometheus.DefaultGatherer
	}
	return &Server{cfg: cfg, checks: checks, reg: reg}
}

// Run listens and serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if s.cfg.Address == "" {
		<-ctx.Done()
		return nil
	}
	host, _, err := net.SplitHostPort(s.cfg.Address)
	if err != nil {
		return fmt.Errorf("health address %q: want host:port: %w", s.cfg.Address, err)
	}
	plain := s.cfg.CertFile == ""
	if ip := net.ParseIP(host); plain && (ip == nil || !ip.IsLoopback()) && host != "localhost" {
		return fmt.Errorf("health address %q: without a certificate only loopback is served; give --tls-cert-file or listen on 127.0.0.1", s.cfg.Address)
	}
	var allow func(*http.Request) bool
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second}
	if !plain {
		files, err := pki.NewFiles(s.cfg.CertFile, s.cfg.KeyFile, s.cfg.ClientCAFile)
		if err != nil {
			return err
		}
		files.OnReload(func(err error) {
			if err != nil {
				klog.ErrorS(err, "reading renewed certificates, serving with the former ones")
			}
		})
		srv.TLSConfig = files.ServerTLS()
		allow = func(r *http.Request) bool { return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 }
	}
	srv.Handler = Mux(s.checks, s.reg, allow)
	ln, err := net.Listen("tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listening for health checks: %w", err)
	}
	context.AfterFunc(ctx, func() { srv.Close() })
	if plain {
		err = srv.Serve(ln)
	} else {
		err = srv.ServeTLS(ln, "", "")
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving health checks: %w", err)
}
