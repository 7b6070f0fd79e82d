package nodetest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const startTimeout = 30 * time.Second

const containerdConfig = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = %q
`

// Containerd is a private daemon.
type Containerd struct {
	// Address of its socket; Dir a short folder for a runtime's state.
	Address, Dir string

	T      testing.TB // of the test that is under way
	config string
	cmd    *exec.Cmd
	log    *bytes.Buffer
}

// StartContainerd starts a private containerd, stopped when the test ends.
func StartContainerd(t testing.TB) *Containerd {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "n") // short: a socket's path has at most 108 characters
	if err != nil {
		t.Fatal(err)
	}
	c := &Containerd{Address: filepath.Join(dir, "c.sock"), Dir: filepath.Join(dir, "k"), T: t, config: filepath.Join(dir, "c.toml")}
	text := fmt.Sprintf(containerdConfig, t.TempDir(), filepath.Join(dir, "c"), c.Address)
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(func() {
		if c.cmd != nil {
			c.Stop()
		}
		if t.Failed() {
			t.Logf("containerd said:\n%s", c.log)
		}
		// Cleanups run last to first: t.TempDir would find busy mounts if a test left some.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
			t.Error(err)
		}
	})
	return c
}

// Start starts the daemon again after Stop or Kill.
func (c *Containerd) Start() {
	c.T.Helper()
	if c.log == nil {
		c.log = new(bytes.Buffer)
	}
	c.cmd = exec.Command("containerd", "--config", c.config)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.WaitDelay = time.Second // shims inherit the log; they may outlive the daemon
	if err := c.cmd.Start(); err != nil {
		c.T.Fatal(err)
	}
	deadline := time.Now().Add(startTimeout)
	for {
		conn, err := net.Dial("unix", c.Address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			c.T.Fatalf("containerd did not come up: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Signal sends the daemon a signal: STOP has it hang.
func (c *Containerd) Signal(s os.Signal) {
	c.T.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.T.Error(err)
	}
}

// Stop ends the daemon with KILL, as a crash would; its shims and containers go on.
func (c *Containerd) Stop() {
	c.T.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.T.Error(err)
	}
	// It was killed: an error is what is expected.
	_ = c.cmd.Wait()
	c.cmd = nil
}
