package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// server answers over HTTP who it is and does to itself what it is asked to.
type server struct {
	opts     options
	notReady atomic.Bool
	notWell  atomic.Bool
}

func serve(ctx context.Context, o options) error {
	s := &server{opts: o}
	l, err := net.Listen("tcp", ":"+strconv.Itoa(o.port))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	if o.udp != 0 {
		if err := echoUDP(ctx, o.udp); err != nil {
			return err
		}
	}
	srv := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		s.notReady.Store(true)
		time.Sleep(o.drain)
		last, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		done <- srv.Shutdown(last)
	}()
	fmt.Printf("serving on %s as %s\n", l.Addr(), hostname())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return <-done
}

func (s *server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", s.whoami)
	m.HandleFunc("GET /hostname", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, hostname()) })
	m.HandleFunc("GET /clientip", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, client(r)) })
	m.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getenv("VERSION")) })
	m.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, strings.Join(os.Environ(), "\n")) })
	m.HandleFunc("GET /echo", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.FormValue("msg")) })
	m.HandleFunc("GET /file", s.file)
	m.HandleFunc("GET /resolve", s.resolve)
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { check(w, !s.notWell.Load() && !s.failing()) })
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { check(w, !s.notReady.Load()) })
	m.HandleFunc("POST /ready", func(w http.ResponseWriter, r *http.Request) { s.notReady.Store(r.FormValue("is") == "false") })
	m.HandleFunc("POST /health", func(w http.ResponseWriter, r *http.Request) { s.notWell.Store(r.FormValue("is") == "false") })
	m.HandleFunc("GET /delay", s.delay)
	m.HandleFunc("GET /dial", s.dial)
	m.HandleFunc("POST /exit", s.exit)
	return m
}

// whoami is the answer that the demo prints: one line a fact.
func (s *server) whoami(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "pod %s\nversion %s\nclient %s\n", hostname(), os.Getenv("VERSION"), client(r))
	for _, v := range []string{"NODE_NAME", "POD_NAMESPACE", "POD_IP"} {
		if s := os.Getenv(v); s != "" {
			fmt.Fprintf(w, "%s %s\n", strings.ToLower(v), s)
		}
	}
}

func (s *server) file(w http.ResponseWriter, r *http.Request) {
	data, err := os.ReadFile(r.FormValue("path"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Write(data)
}

// resolve answers as the command resolve does, for ?ask=KIND:NAME.
func (s *server) resolve(w http.ResponseWriter, r *http.Request) {
	for _, ask := range r.URL.Query()["ask"] {
		line, err := resolveOnce(r.Context(), "/etc/resolv.conf", ask, s.opts.timeout)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, line)
	}
}

func (s *server) delay(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("for"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(d):
		fmt.Fprintln(w, "waited", d)
	case <-r.Context().Done():
	}
}

func (s *server) exit(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.FormValue("code"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, "exiting with", code)
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	time.AfterFunc(50*time.Millisecond, func() { os.Exit(code) })
}

func (s *server) failing() bool {
	_, err := os.Stat(s.opts.failFile)
	return s.opts.failFile != "" && err == nil
}

func check(w http.ResponseWriter, ok bool) {
	if !ok {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return h
}
