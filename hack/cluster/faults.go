package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"pilothouse.dev/hack/netns"
	"pilothouse.dev/hack/proc"
)

// nodeDaemons are the daemons of a node in the order of their start.
func (c *cluster) nodeDaemons(n *node) []daemon {
	return []daemon{c.containerd(n), c.kubelet(n), c.kubeProxy(n)}
}

// daemons are all of the cluster.
func (c *cluster) daemons() []daemon {
	all := []daemon{c.etcd(), c.apiserver(), c.scheduler(), c.controllerManager(), c.registry(), c.routes()}
	for _, n := range c.state.Nodes {
		all = append(all, c.nodeDaemons(n)...)
	}
	return all
}

func (c *cluster) daemon(name string) (daemon, error) {
	var known []string
	for _, d := range c.daemons() {
		if d.name == name {
			return d, nil
		}
		known = append(known, d.name)
	}
	return daemon{}, fmt.Errorf("no daemon %q in cluster %q: it has %s", name, c.name, strings.Join(known, ", "))
}

// killDaemon ends a daemon as a crash would.
func (c *cluster) killDaemon(ctx context.Context, name string) error {
	d, err := c.daemon(name)
	if err != nil {
		return err
	}
	id, alive := c.process(d.name)
	if !alive {
		return fmt.Errorf("%s does not run", name)
	}
	return proc.Kill(ctx, id)
}

// startDaemon starts a daemon that was killed.
func (c *cluster) startDaemon(ctx context.Context, name string) error {
	d, err := c.daemon(name)
	if err != nil {
		return err
	}
	if d.node != nil && d.name == d.node.Name+"/kubelet" {
		if err := c.welcome(ctx, d.node); err != nil {
			return err
		}
	}
	return c.start(ctx, d)
}

// startNode brings a node up, new or after whatever was done to it.
func (c *cluster) startNode(ctx context.Context, n *node) error {
	if err := c.forgive(n); err != nil {
		return err
	}
	if err := c.issueAll(); err != nil {
		return err
	}
	if err := c.welcome(ctx, n); err != nil {
		return err
	}
	if err := c.startRuntime(ctx, n); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.start(gctx, c.kubelet(n)) })
	g.Go(func() error { return c.start(gctx, c.kubeProxy(n)) })
	if err := g.Wait(); err != nil {
		return err
	}
	return c.awaitNodes(ctx)
}

// stopNode shuts a node down as an orderly power-off does: daemons are asked to end, then everything else is ended.
func (c *cluster) stopNode(ctx context.Context, n *node) error {
	for _, d := range []daemon{c.kubelet(n), c.kubeProxy(n), c.containerd(n)} {
		if id, alive := c.process(d.name); alive {
			if err := proc.End(ctx, 10*time.Second, id); err != nil {
				return fmt.Errorf("stopping %s: %w", d.name, err)
			}
		}
	}
	return c.clearNode(ctx, n, stopped)
}

// killNode is the loss of power: everything on the node ends at once, and what it had in memory is gone.
func (c *cluster) killNode(ctx context.Context, n *node) error {
	return c.clearNode(ctx, n, killed)
}

// clearNode ends all processes of a node and removes what a reboot would: mounts, namespaces, sockets, cgroups, its link.
func (c *cluster) clearNode(ctx context.Context, n *node, f fault) error {
	// The cable first: a dying node must not tell anybody goodbye.
	if err := c.setLink(n, false); err != nil && f == killed {
		return err
	}
	var ids []proc.ID
	for _, d := range c.nodeDaemons(n) {
		if id, alive := c.process(d.name); alive {
			ids = append(ids, id)
		}
	}
	if err := proc.Kill(ctx, ids...); err != nil {
		return fmt.Errorf("killing %s: %w", n.Name, err)
	}
	if err := c.endRest(ctx, nodeMark, c.dir+"/"+n.Name, c.nodeCgroup(n)); err != nil {
		return fmt.Errorf("killing %s: %w", n.Name, err)
	}
	for _, dir := range []string{c.nodeRun(n), c.path("nodes", n.Name)} {
		if err := removeShimSockets(dir); err != nil {
			return err
		}
		if err := unmountUnder(dir); err != nil {
			return err
		}
	}
	if err := removeCgroups(c.nodeCgroup(n)); err != nil {
		return err
	}
	if err := netns.Remove(c.nodeNetns(n)); err != nil {
		return err
	}
	if err := c.removeLink(n); err != nil {
		return err
	}
	if err := os.RemoveAll(c.nodeRun(n)); err != nil {
		return fmt.Errorf("removing the node's folder: %w", err)
	}
	return c.setFault(n, f)
}

// pauseNode stops the node's daemons without ending them; its containers run on.
func (c *cluster) pauseNode(n *node) error {
	if err := c.signalNode(n, unix.SIGSTOP); err != nil {
		return err
	}
	return c.setFault(n, paused)
}

// partitionNode pulls the node's cable.
func (c *cluster) partitionNode(n *node) error {
	if err := c.setLink(n, false); err != nil {
		return err
	}
	return c.setFault(n, partitioned)
}

// healNode undoes a pause or a partition.
func (c *cluster) healNode(n *node) error {
	if n.Fault == stopped || n.Fault == killed {
		return fmt.Errorf("%s was %s: start it with `cluster node start %s`", n.Name, n.Fault, n.Name)
	}
	return c.forgive(n)
}

// forgive undoes what can be undone at once; what was ended is started by the caller.
func (c *cluster) forgive(n *node) error {
	switch n.Fault {
	case well:
		return nil
	case paused:
		if err := c.signalNode(n, unix.SIGCONT); err != nil {
			return err
		}
	case partitioned:
		if err := c.setLink(n, true); err != nil {
			return err
		}
	}
	return c.setFault(n, well)
}

func (c *cluster) signalNode(n *node, sig unix.Signal) error {
	for _, d := range c.nodeDaemons(n) {
		id, alive := c.process(d.name)
		if !alive {
			continue
		}
		if err := id.Signal(sig); err != nil && !errors.Is(err, proc.ErrGone) {
			return fmt.Errorf("signalling %s: %w", d.name, err)
		}
	}
	return nil
}

func (c *cluster) setFault(n *node, f fault) error {
	n.Fault = f
	return c.save()
}
