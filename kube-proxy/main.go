// Command kube-proxy makes Services work on one node: it follows Services and
// EndpointSlices and keeps an nftables table that sends each connection to one
// of a service's endpoints.
package main

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	informersv1 "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/kube-proxy/announce"
	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/health"
	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/policy"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/daemon"
	"pilothouse.dev/pkg/events"
	pkghealth "pilothouse.dev/pkg/health"
	"pilothouse.dev/pkg/pki"
)

func main() {
	var cfg Config
	daemon.Main(daemon.Spec{Name: "kube-proxy", Usage: "makes Services work on one node", Flags: cfg.flags(), Run: func(ctx context.Context, log *zap.Logger) error {
		return run(ctx, cfg, log)
	}})
}

// run is the whole daemon: the API tells changes, a syncer for each address family
// writes nftables.
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
	if cfg.Cleanup {
		return errors.Join(removeOthers(cfg, nil, kernel, log), announce.Remove(cfg.netns), policy.Remove(kernel))
	}
	families, err := cfg.families(log)
	if err != nil {
		return err
	}
	if err := removeOthers(cfg, families, kernel, log); err != nil {
		log.Warn("removing rules that nobody wants any more", zap.Error(err))
	}
	if !cfg.NetworkPolicy {
		if err := policy.Remove(kernel); err != nil {
			log.Warn("removing policies that another is to enforce", zap.Error(err))
		}
	}
	rest, err := client.Load(cfg.Kubeconfig, "kube-proxy")
	if err != nil {
		return err
	}
	api, err := client.New(client.Patient(rest))
	if err != nil {
		return err
	}

	state := health.NewState(2 * cfg.SyncPeriod)
	ports := health.NewPorts(state, log.Named("health"))
	checks := &pkghealth.Checks{}
	checks.AddReady("rules", state.Check)

	var source *changes.Source
	var nodeSynced cache.InformerSynced
	ready := func(ctx context.Context) error { return errors.Join(source.Synced(ctx), waitFor(ctx, nodeSynced)) }
	var rooms []*familyRooms
	var listeners []changes.Listener
	recorder := events.New(api.Kube, "kube-proxy", cfg.NodeName)
	voice := announce.New(cfg.announced(), announce.Parts{Kube: api.Kube, Events: recorder, Homes: homes(&rooms)}, log.Named("announce"))
	for _, v6 := range families {
		offer := func(t *changes.Table) { ports.Offer(v6, t); voice.Written(v6) }
		f := newFamily(cfg, v6, kernel, state, offer, ready, log)
		rooms, listeners = append(rooms, f), append(listeners, f.table)
	}
	guard := policy.New(cfg.NodeName, api.Kube, policy.NewWriter(kernel, log.Named("policy")), policy.Periods{Min: cfg.MinSyncPeriod, Verify: cfg.SyncPeriod},
		func(ctx context.Context) error { return waitFor(ctx, nodeSynced) }, log.Named("policy"))
	source = changes.NewSource(api.Kube, append(listeners, voice)...)
	node := informersv1.NewFilteredNodeInformer(api.Kube, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, cfg.NodeName).String()
	})
	nodeSynced, err = followNode(node, func(n *corev1.Node) {
		for _, f := range rooms {
			f.hear(n)
		}
		state.SetNode(n)
		guard.SetNode(n)
	})
	if err != nil {
		return err
	}

	g := daemon.NewGroup(log)
	defer register(append(pending(rooms), pki.Reloads)...)()
	g.Add("metrics", func(ctx context.Context) error { return health.ServeAdmin(ctx, cfg.MetricsAddress, checks) })
	g.Add("health", func(ctx context.Context) error { return state.Serve(ctx, cfg.HealthzAddress) })
	g.Add("health check node ports", ports.Run)
	g.Add("node informer", func(ctx context.Context) error { node.RunWithContext(ctx); return nil })
	g.Add("services and endpoints", source.Run)
	for _, f := range rooms {
		f.addTo(g)
	}
	if cfg.NetworkPolicy {
		g.Add("network policies", guard.Run)
	}
	g.Add("events", recorder.Run)
	g.Add("load balancer addresses", voice.Run)
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
