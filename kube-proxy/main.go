// Command kube-proxy makes Services work on one node: it follows Services and
// EndpointSlices and keeps an nftables table that sends each connection to one
// of a service's endpoints.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	informersv1 "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/conntrack"
	"pilothouse.dev/kube-proxy/health"
	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/nodeaddr"
	"pilothouse.dev/kube-proxy/syncer"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/daemon"
	pkghealth "pilothouse.dev/pkg/health"
	"pilothouse.dev/pkg/pki"
)

func main() {
	var cfg Config
	daemon.Main(daemon.Spec{Name: "kube-proxy", Usage: "makes Services work on one node", Flags: cfg.flags(), Run: func(ctx context.Context, log *zap.Logger) error {
		return run(ctx, cfg, log)
	}})
}

// run is the whole daemon: informers tell changes, the syncer writes nftables.
func run(ctx context.Context, cfg Config, log *zap.Logger) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	escape, err := nftables.BridgesEscape()
	if err != nil {
		return err
	}
	if cfg.rules.MasqueradeNeighbours = escape; escape {
		log.Info("br_netfilter is not loaded: pods that call pods of this node through services are masqueraded")
	}
	kernel := nfconn.New(cfg.netns)
	defer kernel.Close()
	rules := nftables.New(cfg.rules, kernel, log.Named("nftables"))
	if cfg.Cleanup {
		return rules.Remove()
	}
	rest, err := client.Load(cfg.Kubeconfig, "kube-proxy")
	if err != nil {
		return err
	}
	api, err := client.New(client.Patient(rest))
	if err != nil {
		return err
	}

	table := changes.New(cfg.NodeName, false)
	addresses := nodeaddr.New(cfg.nodePortRanges, false, log.Named("nodeaddr"))
	state := health.NewState(2 * cfg.SyncPeriod)
	ports := health.NewPorts(state, log.Named("health"))
	checks := &pkghealth.Checks{}
	checks.AddReady("rules", state.Check)

	objects := client.Informers(api.Kube)
	synced, err := table.Follow(objects)
	if err != nil {
		return err
	}
	node := informersv1.NewFilteredNodeInformer(api.Kube, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, cfg.NodeName).String()
	})
	nodeSynced, err := followNode(node, func(n *corev1.Node) {
		table.SetZone(n.Labels[corev1.LabelTopologyZone])
		addresses.SetNode(n)
		state.SetNode(n)
	})
	if err != nil {
		return err
	}

	loop := syncer.New(syncer.Parts{
		Table: table, Addresses: addresses, Rules: rules, Flows: conntrack.New(false, cfg.netns), Health: state, Offer: ports.Offer,
		Ready: func(ctx context.Context) error { return waitFor(ctx, append(synced, nodeSynced)...) },
	}, syncer.Periods{Min: cfg.MinSyncPeriod, Verify: cfg.SyncPeriod}, log.Named("syncer"))

	g := daemon.NewGroup(log)
	prometheus.MustRegister(pki.Reloads)
	g.Add("metrics", pkghealth.New(pkghealth.Config{Address: cfg.MetricsAddress}, checks, nil).Run)
	g.Add("health", func(ctx context.Context) error { return state.Serve(ctx, cfg.HealthzAddress) })
	g.Add("health check node ports", ports.Run)
	g.Add("node addresses", addresses.Run)
	g.Add("node informer", func(ctx context.Context) error { node.RunWithContext(ctx); return nil })
	g.Add("informers", func(ctx context.Context) error {
		objects.StartWithContext(ctx)
		<-ctx.Done()
		objects.Shutdown()
		return nil
	})
	g.Add("syncer", loop.Run)
	return g.Run(ctx)
}

// followNode hears of this node's own object.
func followNode(node cache.SharedIndexInformer, hear func(*corev1.Node)) (cache.InformerSynced, error) {
	r, err := node.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { hear(o.(*corev1.Node)) },
		UpdateFunc: func(_, o any) { hear(o.(*corev1.Node)) },
	})
	if err != nil {
		return nil, fmt.Errorf("following the node: %w", err)
	}
	return r.HasSynced, nil
}

func waitFor(ctx context.Context, synced ...cache.InformerSynced) error {
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.Join(errors.New("the informers were stopped"), ctx.Err())
	}
	return nil
}
