package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Etcd is a real etcd server of one member on loopback, a child of the test that dies with it.
type Etcd struct {
	Endpoint string

	bin, dir, peer string
	mu             sync.Mutex
	cmd            *exec.Cmd     // guarded by mu; nil while stopped
	exited         chan struct{} // guarded by mu
	out            bytes.Buffer  // written by the child until exited
}

// StartEtcd starts a server for t, stopped at its end.
func StartEtcd(t testing.TB) *Etcd {
	t.Helper()
	e, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	return e
}

// Main runs a package's tests with one server that they share, each under a prefix of its own; use receives it.
func Main(m *testing.M, use func(*Etcd)) int {
	dir, err := os.MkdirTemp("", "etcd-")
	if err == nil {
		defer os.RemoveAll(dir)
		var e *Etcd
		if e, err = Open(dir); err == nil {
			defer e.Kill()
			use(e)
			return m.Run()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// Open starts a server on a folder.
func Open(dir string) (*Etcd, error) {
	bin, err := binary()
	if err != nil {
		return nil, fmt.Errorf("finding etcd: %w", err)
	}
	for try := 0; ; try++ { // a port may be taken between choosing and using it
		client, peer, err := freePorts()
		if err != nil {
			return nil, err
		}
		e := &Etcd{Endpoint: "http://" + client, peer: "http://" + peer, bin: bin, dir: filepath.Join(dir, fmt.Sprint("data", try))}
		if err = e.Start(); err == nil {
			return e, nil
		}
		e.Kill()
		if try == 2 {
			return nil, err
		}
	}
}

// Start starts the server (again, on the same data) and waits until it answers.
func (e *Etcd) Start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.out.Reset()
	cmd := exec.Command(e.bin, "--name=test", "--data-dir="+e.dir, "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls="+e.Endpoint, "--advertise-client-urls="+e.Endpoint,
		"--listen-peer-urls="+e.peer, "--initial-advertise-peer-urls="+e.peer, "--initial-cluster=test="+e.peer)
	cmd.Stdout, cmd.Stderr = &e.out, &e.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error), make(chan struct{})
	go func() {
		// The child gets its signal when the thread that started it ends: keep that thread as long as the child.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed on purpose; what it said is in out
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting etcd: %w", err)
	}
	e.cmd, e.exited = cmd, exited
	deadline := time.After(30 * time.Second)
	for {
		resp, err := http.Get(e.Endpoint + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-exited:
			return fmt.Errorf("etcd ended: %s", e.out.String())
		case <-deadline:
			return errors.New("etcd does not become healthy")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Kill ends the server at once, as a crash does. Its data stays.
func (e *Etcd) Kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cmd != nil {
		_ = e.cmd.Process.Kill() // it may be gone already
		<-e.exited
		e.cmd = nil
	}
}

// Wipe ends the server and removes its data.
func (e *Etcd) Wipe() error {
	e.Kill()
	return os.RemoveAll(e.dir)
}

// Signal sends a signal to the running server.
func (e *Etcd) Signal(s os.Signal) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cmd.Process.Signal(s)
}

// binary finds etcd: ETCD_BIN, bin/etcd of the checkout, or one built from hack/tools/etcd into the user's cache.
func binary() (string, error) {
	if b := os.Getenv("ETCD_BIN"); b != "" {
		return b, nil
	}
	_, self, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(self), "..", "..", "..")
	built := filepath.Join(root, "bin", "etcd")
	if _, err := os.Stat(built); err == nil {
		return built, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	built = filepath.Join(cache, "pilothouse", "etcd")
	if _, err := os.Stat(built); err == nil {
		return built, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	tmp := fmt.Sprintf("%s.%d", built, os.Getpid()) // renamed when whole: several test processes may build at once
	cmd := exec.CommandContext(ctx, "go", "build", "-o", tmp, ".")
	cmd.Dir = filepath.Join(root, "hack", "tools", "etcd")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building etcd: %w\n%s", err, out)
	}
	return built, os.Rename(tmp, built)
}

func freePorts() (a, b string, err error) {
	var addrs [2]string
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	return addrs[0], addrs[1], nil
}
