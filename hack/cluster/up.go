package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/hack/proc"
	"pilothouse.dev/pkg/client"
)

// up starts the cluster, or what is missing of it, and returns when all its nodes are ready and its name server answers them.
func (c *cluster) up(ctx context.Context, cfg config) error {
	began := time.Now()
	if os.Geteuid() != 0 {
		return errors.New("starting a cluster needs root: it makes network namespaces and runs containers")
	}
	if err := c.checkPrograms(); err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.create(cfg); err != nil {
		return err
	}
	a := c.addr()
	c.say("cluster %q: nodes %s, pods %s, services %s, in %s", c.name, joined(a.nodes()), joined(a.pods()), joined(a.services()), c.dir)
	if err := c.raiseNetwork(); err != nil {
		return err
	}
	for len(c.state.Nodes) < cfg.Nodes {
		if _, err := c.addNode(); err != nil {
			return err
		}
	}
	if err := c.issueAll(); err != nil {
		return err
	}
	for _, n := range c.state.Nodes {
		if err := c.forgive(n); err != nil {
			return err
		}
	}
	if err := c.writeRegistryHosts(); err != nil {
		return err
	}
	if err := c.startParts(ctx); err != nil {
		return err
	}
	if err := c.awaitNodes(ctx); err != nil {
		return err
	}
	c.say("ready after %.1f s", time.Since(began).Seconds())
	dns, err := c.raiseDNS(ctx, began)
	if err != nil {
		return err
	}
	c.say("%s", dns)
	c.say("\n  export KUBECONFIG=%s\n  %s get nodes", c.adminKubeconfig(), c.program("kubectl"))
	return nil
}

// create makes the cluster's records, or reads those of the one that exists.
func (c *cluster) create(cfg config) error {
	if err := os.MkdirAll(runRoot, 0o711); err != nil {
		return fmt.Errorf("making the folder of sockets: %w", err)
	}
	err := c.load()
	if err == nil {
		if cfg.Range >= 0 && cfg.Range != c.state.Range {
			return fmt.Errorf("cluster %q has range %d: take it down before giving it another", c.name, c.state.Range)
		}
		if len(cfg.Families) > 0 && !slices.Equal(cfg.Families, c.state.Families) && !(len(c.state.Families) == 0 && slices.Equal(cfg.Families, []family{ipv4})) {
			return fmt.Errorf("cluster %q has addresses of other families: take it down before giving it others", c.name)
		}
		if err := c.checkRange(); err != nil {
			return err
		}
		c.state.Uplink = c.state.Uplink || cfg.Uplink
		if cfg.NoDNS != nil {
			c.state.NoDNS = *cfg.NoDNS
		}
		if err := c.checkFamilies(); err != nil {
			return err
		}
		return c.save()
	}
	if !errors.Is(err, errNoCluster) {
		return err
	}
	// No two commands may choose at the same time.
	all, err := os.Open(runRoot)
	if err != nil {
		return fmt.Errorf("choosing a range: %w", err)
	}
	defer all.Close()
	if err := unix.Flock(int(all.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("choosing a range: %w", err)
	}
	n, err := chooseRange(cfg.Range)
	if err != nil {
		return err
	}
	c.state = state{
		Name: c.name, Dir: c.dir, Range: n, Families: cfg.Families, Boot: bootID(), Uplink: cfg.Uplink, NoDNS: cfg.NoDNS != nil && *cfg.NoDNS, Processes: map[string]proc.ID{},
	}
	if err := c.checkFamilies(); err != nil {
		return err
	}
	return c.save()
}

// issueAll writes all certificates and kubeconfigs, and the key of secrets.
func (c *cluster) issueAll() error {
	wanted := c.identities()
	for _, n := range c.state.Nodes {
		wanted = append(wanted, c.nodeIdentities(n)...)
	}
	if err := c.issue(wanted); err != nil {
		return fmt.Errorf("issuing certificates: %w", err)
	}
	if err := c.writeEncryption(); err != nil {
		return err
	}
	for _, w := range wanted {
		file := c.kubeconfigOf(w.file)
		switch {
		case w.file == "admin":
			file = c.adminKubeconfig()
		case w.ca != clusterCA || !w.id.Client || w.file == "apiserver-kubelet-client":
			continue // it never calls the API
		}
		if err := c.writeKubeconfig(file, w.file, w.id.Name); err != nil {
			return fmt.Errorf("writing kubeconfigs: %w", err)
		}
	}
	return nil
}

// startParts starts everything in the order of its needs: the store and the API server on one side, registry, namespaces and
// containerds on the other; then all that calls the API.
func (c *cluster) startParts(ctx context.Context) error {
	first, fctx := errgroup.WithContext(ctx)
	first.Go(func() error {
		if err := c.start(fctx, c.etcd()); err != nil {
			return err
		}
		if err := c.start(fctx, c.apiserver()); err != nil {
			return err
		}
		if err := c.grant(fctx); err != nil {
			return err
		}
		if err := c.storageClass(fctx); err != nil {
			return err
		}
		return c.welcome(fctx, c.running()...)
	})
	first.Go(func() error {
		if err := c.start(fctx, c.registry()); err != nil {
			return err
		}
		return c.loadBuilt()
	})
	for _, n := range c.running() {
		first.Go(func() error { return c.startRuntime(fctx, n) })
	}
	if err := first.Wait(); err != nil {
		return err
	}
	second, sctx := errgroup.WithContext(ctx)
	for _, d := range []daemon{c.scheduler(), c.controllerManager(), c.routes()} {
		second.Go(func() error { return c.start(sctx, d) })
	}
	for _, n := range c.running() {
		second.Go(func() error { return c.start(sctx, c.kubelet(n)) })
		second.Go(func() error { return c.start(sctx, c.kubeProxy(n)) })
	}
	return second.Wait()
}

// startRuntime makes a node's namespace and starts its containerd.
func (c *cluster) startRuntime(ctx context.Context, n *node) error {
	if err := c.raiseNode(n); err != nil {
		return err
	}
	if err := c.writeContainerdConfig(n); err != nil {
		return err
	}
	return c.start(ctx, c.containerd(n))
}

// running are the nodes that nothing was done to.
func (c *cluster) running() []*node {
	return slices.DeleteFunc(slices.Clone(c.state.Nodes), func(n *node) bool { return n.Fault != well })
}

// nodesIn is how long nodes may take until they are ready.
const nodesIn = 90 * time.Second

// awaitNodes returns when every running node is ready, has its pod range, and is reached from here.
func (c *cluster) awaitNodes(ctx context.Context) error {
	cfg, err := client.Load(c.adminKubeconfig(), "cluster")
	if err != nil {
		return err
	}
	clients, err := client.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodesIn)
	defer cancel()
	var missing string
	for {
		list, err := clients.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err == nil {
			if missing = c.notReady(list.Items); missing == "" {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the nodes (%s): %w", missing, errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// notReady says what is still missing, in one line.
func (c *cluster) notReady(list []corev1.Node) string {
	missing := ""
	for _, n := range c.running() {
		i := slices.IndexFunc(list, func(have corev1.Node) bool { return have.Name == n.Name })
		switch {
		case i < 0:
			missing += n.Name + " has not registered, see `cluster logs " + n.Name + "/kubelet`; "
		case !nodeReady(&list[i]):
			missing += n.Name + " is not ready" + readyMessage(&list[i]) + "; "
		case !c.tells(n, &list[i]):
			missing += n.Name + " has not told its address; "
		case len(list[i].Spec.PodCIDRs) < len(c.addr().six()):
			missing += n.Name + " has no pod range yet; "
		}
	}
	return missing
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(cond corev1.NodeCondition) bool {
		return cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue
	})
}

func readyMessage(n *corev1.Node) string {
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Message != "" {
			return " (" + cond.Message + ")"
		}
	}
	return ""
}
