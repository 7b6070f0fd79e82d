package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// witness answers all HTTP requests and writes a line to its output for each but those for /healthz: the path, the host, and headers that begin with X-.
func witness(ctx context.Context, o options) error {
	return listen(ctx, o.port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		line := "asked " + r.URL.RequestURI() + " at " + r.Host
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-") {
				line += " " + name + "=" + strings.Join(values, ",")
			}
		}
		fmt.Println(line)
	}))
}

// grpchealth answers gRPC's health check: well until -after has passed (0: for ever), then not serving. Only the service named by -text, and the
// server as a whole, are known. The protocol is small enough to be spoken without its library:
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md and health-checking.md.
func grpchealth(ctx context.Context, o options) error {
	var sick atomic.Bool
	if o.after > 0 {
		time.AfterFunc(o.after, func() { sick.Store(true) })
	}
	return listen(ctx, o.port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 4096))
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		service := ""
		if len(body) > 7 { // five bytes of frame, then field 1 with its length
			service = string(body[7:])
		}
		switch {
		case err != nil:
			w.Header().Set("Grpc-Status", "13")
			return
		case r.URL.Path != "/grpc.health.v1.Health/Check":
			w.Header().Set("Grpc-Status", "12")
			return
		case service != "" && service != o.text:
			w.Header().Set("Grpc-Status", "5")
			return
		}
		status := byte(1)
		if sick.Load() {
			status = 2
		}
		w.Write([]byte{0, 0, 0, 0, 2, 8, status})
		w.Header().Set("Grpc-Status", "0")
	}))
}

// listen serves HTTP of both versions without TLS until ctx ends.
func listen(ctx context.Context, port int, h http.Handler) error {
	var both http.Protocols
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	srv := &http.Server{Addr: ":" + strconv.Itoa(port), Handler: h, Protocols: &both, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { srv.Close() })
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
