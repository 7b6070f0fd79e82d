package testcluster

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// Etcd is a real etcd of one member on loopback, without TLS and without fsync.
type Etcd struct {
	Endpoint string // http://127.0.0.1:port
	child    *child
	dir      string
}

// StartEtcd starts one for t, stopped and removed at its end. extra are flags of etcd's own.
func StartEtcd(t testing.TB, extra ...string) *Etcd {
	t.Helper()
	e, err := openEtcd(t.TempDir(), extra...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	return e
}

// MainEtcd runs a package's tests with one server that they share, each under a prefix of its own; use receives it first.
func MainEtcd(m *testing.M, use func(*Etcd)) int {
	flag.Parse()
	if w := flag.Lookup("test.fuzzworker"); w != nil && w.Value.String() == "true" {
		return m.Run() // one of many processes that only try inputs
	}
	dir, err := os.MkdirTemp("", "etcd-")
	if err == nil {
		defer os.RemoveAll(dir)
		var e *Etcd
		if e, err = openEtcd(dir); err == nil {
			defer e.Kill()
			use(e)
			return m.Run()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func openEtcd(dir string, extra ...string) (*Etcd, error) {
	bin, err := etcdBinary()
	if err != nil {
		return nil, fmt.Errorf("finding etcd: %w", err)
	}
	for try := 1; ; try++ {
		ports, err := freePorts(2)
		if err != nil {
			return nil, err
		}
		client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
		e := &Etcd{Endpoint: client, dir: filepath.Join(dir, fmt.Sprint("data", try))}
		e.child = &child{
			name: "etcd", bin: bin, ready: httpReady(http.DefaultClient, client+"/health"),
			args: append([]string{
				"--name=test", "--data-dir=" + e.dir, "--unsafe-no-fsync", "--log-level=error",
				"--heartbeat-interval=10", "--election-timeout=100",
				"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
				"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=test=" + peer,
			}, extra...),
		}
		if err = e.Start(); err == nil {
			return e, nil
		}
		e.Kill()
		if try == startTries {
			return nil, err
		}
	}
}

// Start starts a stopped server again on its data, and waits until it answers.
func (e *Etcd) Start() error { return e.child.start() }

// Kill ends it at once, as a crash does. Its data stays.
func (e *Etcd) Kill() { e.child.kill() }

// Signal sends a signal to the running server.
func (e *Etcd) Signal(s os.Signal) error { return e.child.signal(s) }

// Wipe ends it and removes its data.
func (e *Etcd) Wipe() error {
	e.Kill()
	return os.RemoveAll(e.dir)
}

// Holds says whether any of its files holds these bytes: what who steals the disk would find.
func (e *Etcd) Holds(text []byte) (bool, error) {
	found := errors.New("found")
	err := filepath.WalkDir(e.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, text) {
			return found
		}
		return err
	})
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// httpReady asks a URL for 200.
func httpReady(c *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		return nil
	}
}
