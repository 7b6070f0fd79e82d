package plugins

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// Sockets are served and called wherever they lie, and are gone when their end was asked for.
func TestSocketsOfAnyLength(t *testing.T) {
	for name, dir := range map[string]string{"short": "s", "long": strings.Repeat("long/", 40)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), dir, "a.sock")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil { // left by a former life
				t.Fatal(err)
			}
			ln, err := Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			srv := grpc.NewServer()
			healthv1.RegisterHealthServer(srv, health.NewServer())
			done := make(chan error)
			go func() { done <- srv.Serve(ln) }()
			conn, err := Client(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
				t.Errorf("calling it: %v", err)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			srv.Stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("the socket is still there: %v", err)
			}
		})
	}
	if _, err := Listen(filepath.Join(t.TempDir(), strings.Repeat("none/", 40), "a.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
}
