// Package testcluster gives any module's tests a real etcd and a real API server as child processes, and clients to them.
// What is started dies with the test, also when the test is killed. Binaries are built from the checkout when needed; that
// they cannot be had is a failure, never a skip.
package testcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// child is a process of ours that dies with this one.
type child struct {
	name, bin string
	args      []string
	ready     func(context.Context) error // nil once it serves

	mu     sync.Mutex
	cmd    *exec.Cmd     // guarded by mu; nil while stopped
	exited chan struct{} // guarded by mu
	out    *tail         // guarded by mu; what it said last
}

// startLimit is how long a child may take to serve; it is generous, since a failing wait is always a failing test.
const startLimit = time.Minute

// start starts it (again) and waits until it serves.
func (c *child) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = &tail{}
	cmd := exec.Command(c.bin, c.args...)
	cmd.Stdout, cmd.Stderr = c.out, c.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error), make(chan struct{})
	go func() {
		// The child gets its signal when the thread that started it ends: that thread stays as long as the child.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed on purpose; what it said is in out
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting %s: %w", c.name, err)
	}
	c.cmd, c.exited = cmd, exited
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		err := c.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s ended: %s", c.name, c.out)
		case <-ctx.Done():
			return fmt.Errorf("%s does not become ready: %w; it said: %s", c.name, err, c.out)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// signal sends s to the running process.
func (c *child) signal(s os.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return errors.New(c.name + " is not running")
	}
	return c.cmd.Process.Signal(s)
}

// kill ends it at once, as a crash does.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd != nil {
		_ = c.cmd.Process.Kill() // it may be gone already
		<-c.exited
		c.cmd = nil
	}
}

// said is the end of what the process has printed.
func (c *child) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// tail keeps the last of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf.Len() > tailSize {
		t.buf.Next(t.buf.Len() - tailSize/2)
	}
	return t.buf.Write(p)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

// freePorts finds n ports of loopback that nobody listens on now.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// startTries is how often a start is tried with other ports: a port may be taken between finding and using it.
const startTries = 3
