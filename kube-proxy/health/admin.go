package health

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	pkghealth "pilothouse.dev/pkg/health"
)

// ServeAdmin serves metrics, the checks of readiness, profiles and the name of
// what the rules are made with at an address until ctx ends; without an address it
// only waits. It is plain HTTP, for this machine only.
func ServeAdmin(ctx context.Context, address string, checks *pkghealth.Checks) error {
	if address == "" {
		<-ctx.Done()
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("metrics address %q: want host:port: %w", address, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("metrics address %q: only loopback is served, for profiles are served here, too", address)
	}
	m := pkghealth.Mux(checks, prometheus.DefaultGatherer, nil)
	m.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = fmt.Fprint(w, "nftables") // a client that left needs no answer
	})
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening for metrics: %w", err)
	}
	return serve(ctx, ln, m)
}
