package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"pilothouse.dev/hack/netns"
)

// status prints every daemon with its process and whether it works.
func (c *cluster) status(ctx context.Context) error {
	if err := c.load(); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "DAEMON\tPID\tSTATE")
	for _, d := range c.daemons() {
		id, alive := c.process(d.name)
		state := "works"
		switch {
		case !alive:
			fmt.Fprintf(w, "%s\t-\tended\n", d.name)
			continue
		case id.Paused():
			state = "paused"
		default:
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			if err := d.ready(ctx); err != nil {
				state = err.Error()
			}
			cancel()
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", d.name, id.PID, state)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "NODE\tADDRESS\tSTATE")
	for _, n := range c.state.Nodes {
		state := string(n.Fault)
		if n.Fault == well {
			state = "well"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.Name, c.nodeIP(n), state)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "DNS\tADDRESS\tSTATE")
	fmt.Fprintf(w, "%s\t%s\t%s\n", dnsService, c.addr().dns(), c.dnsState(ctx))
	return w.Flush()
}

// exec replaces this process by a command that runs inside a node's network.
func (c *cluster) exec(name string, command []string) error {
	if err := c.load(); err != nil {
		return err
	}
	n, err := c.node(name)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("finding %s: %w", command[0], err)
	}
	runtime.LockOSThread()
	if err := netns.Enter(c.nodeNetns(n)); err != nil {
		return err
	}
	return fmt.Errorf("running %s: %w", path, unix.Exec(path, command, os.Environ()))
}

// logs prints a daemon's log and with follow goes on until ctx ends.
func (c *cluster) logs(ctx context.Context, name string, follow bool) error {
	if err := c.load(); err != nil {
		return err
	}
	if _, err := c.daemon(name); err != nil {
		return err
	}
	f, err := os.Open(c.logFile(name))
	if err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	defer f.Close()
	for {
		if _, err := io.Copy(c.out, f); err != nil {
			return fmt.Errorf("reading log: %w", err)
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}
