package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pilothouse.dev/hack/netns"
	"pilothouse.dev/hack/proc"
)

// daemon is one program of the cluster: how it is started and how it is known to work.
type daemon struct {
	name   string // "etcd", "node1/kubelet"; its log and its place in the state
	path   string
	args   []string
	node   *node    // whose namespace it runs in, nil for this machine's
	listen []string // addresses it will listen on: checked before the start, so that a taken one is named
	ready  func(ctx context.Context) error
}

// readyIn is how long a daemon may take until it works.
const readyIn = 60 * time.Second

// ensure starts the daemon unless it runs already; it does not wait until it works.
func (c *cluster) ensure(d daemon) (started bool, err error) {
	if _, alive := c.process(d.name); alive {
		return false, nil
	}
	if err := c.checkFree(d); err != nil {
		return false, err
	}
	env := []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		clusterMark + "=" + c.dir,
	}
	spec := proc.Spec{Path: d.path, Args: d.args, Env: env, Dir: c.dir, Log: c.logFile(d.name)}
	if d.node != nil {
		spec.Env = append(spec.Env, nodeMark+"="+c.dir+"/"+d.node.Name)
		spec.Netns = c.nodeNetns(d.node)
	}
	id, err := proc.Start(spec)
	if err != nil {
		return false, fmt.Errorf("starting %s: %w%s", d.name, err, c.lastWords(d.name))
	}
	return true, c.remember(d.name, id)
}

// Marks in the environment of everything we start, and of what that starts (containers have environments of their own and are
// found by cgroup).
const (
	clusterMark = "PILOTHOUSE_CLUSTER"
	nodeMark    = "PILOTHOUSE_NODE"
)

// await returns once the daemon works; when it ends instead, the error has its last words.
func (c *cluster) await(ctx context.Context, d daemon) error {
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	for {
		err := d.ready(ctx)
		if err == nil {
			return nil
		}
		if _, alive := c.process(d.name); !alive {
			return fmt.Errorf("%s ended instead of getting ready%s", d.name, c.lastWords(d.name))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to be ready: %w%s", d.name, errors.Join(ctx.Err(), err), c.lastWords(d.name))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// start is ensure and await, told to the user.
func (c *cluster) start(ctx context.Context, d daemon) error {
	began := time.Now()
	started, err := c.ensure(d)
	if err != nil {
		return err
	}
	if err := c.await(ctx, d); err != nil {
		return err
	}
	if started {
		c.say("  %-22s ready after %.1f s", d.name, time.Since(began).Seconds())
	} else {
		c.say("  %-22s runs already", d.name)
	}
	return nil
}

// lastWords are the last lines of a daemon's log.
func (c *cluster) lastWords(name string) string {
	data, err := tail(c.logFile(name), 4096)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if err != nil || len(data) == 0 {
		return ", and its log is empty"
	}
	if len(lines) > 8 {
		lines = lines[len(lines)-8:]
	}
	return fmt.Sprintf("; the end of its log (%s):\n    %s", c.logFile(name), strings.Join(lines, "\n    "))
}

func tail(file string, n int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(f)
	if _, rest, cut := bytes.Cut(data, []byte("\n")); int64(len(data)) == n && cut {
		data = rest
	}
	return data, err
}

// checkFree says which address is taken, and by whom if that can be seen.
func (c *cluster) checkFree(d daemon) error {
	for _, addr := range d.listen {
		try := func() error {
			// As the daemons listen themselves: connections of a predecessor that are still closing don't count.
			lc := net.ListenConfig{}
			l, err := lc.Listen(context.Background(), "tcp", addr)
			if err != nil {
				return err
			}
			return l.Close()
		}
		var err error
		if d.node != nil {
			err = netns.Do(c.nodeNetns(d.node), try)
		} else {
			err = try()
		}
		if errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("starting %s: address %s is taken%s: end that program, or give this cluster other addresses and ports with `up -range N` (0 to %d)",
				d.name, addr, holder(addr), maxRange)
		}
		if err != nil {
			return fmt.Errorf("starting %s: trying address %s: %w", d.name, addr, err)
		}
	}
	return nil
}

// holder is " by …" for the process that listens on addr, if ss can tell.
func holder(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	out, err := exec.Command("ss", "-Hltnp", "sport = :"+port).Output()
	if err != nil {
		return ""
	}
	if _, users, ok := strings.Cut(string(out), "users:"); ok {
		return " by " + strings.TrimSpace(strings.SplitN(users, "\n", 2)[0])
	}
	return ""
}

// program finds one of our own programs.
func (c *cluster) program(name string) string { return filepath.Join(c.bin, name) }

// checkPrograms names everything that is missing, and what helps.
func (c *cluster) checkPrograms() error {
	var missing []string
	for _, name := range []string{"etcd", "apiserver", "scheduler", "controller-manager", "kubelet", "kube-proxy", "kubectl"} {
		if _, err := os.Stat(c.program(name)); err != nil {
			missing = append(missing, c.program(name)+" (make build)")
		}
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "runc", "nft"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name+" (make prereqs)")
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing programs: %s", strings.Join(missing, ", "))
	}
	return nil
}
