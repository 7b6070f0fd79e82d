// Command apiserver serves the Kubernetes API and is the only writer to etcd.
package main

import (
	"context"
	"fmt"
	"maps"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/actions"
	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/admission/plugins"
	"pilothouse.dev/apiserver/allocator"
	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authn/oidc"
	"pilothouse.dev/apiserver/authz/modes"
	"pilothouse.dev/apiserver/authz/node"
	"pilothouse.dev/apiserver/authz/rbac"
	"pilothouse.dev/apiserver/bootstrap"
	"pilothouse.dev/apiserver/filters"
	"pilothouse.dev/apiserver/flowcontrol"
	"pilothouse.dev/apiserver/handlers"
	"pilothouse.dev/apiserver/lookup"
	"pilothouse.dev/apiserver/nodeproxy"
	"pilothouse.dev/apiserver/openapi"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources"
	"pilothouse.dev/apiserver/server"
	"pilothouse.dev/apiserver/storage/encryption"
	"pilothouse.dev/apiserver/storage/etcd"
	"pilothouse.dev/apiserver/storage/watchcache"
	"pilothouse.dev/pkg/daemon"
	"pilothouse.dev/pkg/health"
	"pilothouse.dev/pkg/pki"
)

func main() {
	var cfg Config
	daemon.Main(daemon.Spec{
		Name: "apiserver", Usage: "serve the Kubernetes API from etcd", Flags: flags(&cfg),
		Growth: 200, // a busy server then spends a tenth less of its processor time
		Run:    func(ctx context.Context, log *zap.Logger) error { return run(ctx, cfg, log) },
	})
}

func run(ctx context.Context, cfg Config, log *zap.Logger) error {
	boot, err := cfg.bootstrap()
	if err != nil {
		return err
	}
	ranges, err := cfg.addresses()
	if err != nil {
		return err
	}
	cfg.Audit.Drain = cfg.Serving.DrainTimeout
	trail, err := audit.New(cfg.Audit, prometheus.DefaultRegisterer, log)
	if err != nil {
		return err
	}
	keeper, err := encryption.Open(cfg.Encryption, prometheus.DefaultRegisterer, log)
	if err != nil {
		return err
	}
	cfg.Etcd.Sealer = keeper
	db, err := etcd.Open(cfg.Etcd, log)
	if err != nil {
		return fmt.Errorf("opening etcd: %w", err)
	}
	defer db.Close()
	caches := watchcache.New(db, log)
	reg := registry.New(caches, resources.Table)
	look := lookup.New(reg)
	addrs, err := allocator.New(db, ranges, look, log)
	if err != nil {
		return fmt.Errorf("preparing service addresses: %w", err)
	}
	kubelets, err := nodeproxy.New(cfg.Kubelets, look)
	if err != nil {
		return err
	}

	tokens, err := authn.NewTokens(cfg.tokens(), look, log)
	if err != nil {
		return err
	}
	documents, err := tokens.Documents()
	if err != nil {
		return err
	}
	issuers, err := oidc.New(cfg.oidc(), prometheus.DefaultRegisterer, log)
	if err != nil {
		return err
	}
	who, err := authn.Open(cfg.authn(), authn.Parts{Tokens: tokens, Issuers: issuers, Objects: look, Metrics: prometheus.DefaultRegisterer, Log: log})
	if err != nil {
		return err
	}
	roles, nodes := rbac.New(look.RoleFeeds()), node.New(look.NodeFeeds(), log)
	access, err := modes.New(cfg.Authz, modes.Parts{RBAC: roles, Node: nodes, Metrics: prometheus.DefaultRegisterer, Log: log})
	if err != nil {
		return err
	}
	may := access.Authorizer
	var handle *handlers.Handlers // writes the quotas that admission charges, as it writes everything
	links, err := plugins.Table(plugins.Parts{
		Quotas: lookup.NewQuotas(look),
		ChangeQuota: func(ctx context.Context, namespace, name string, change func(*corev1.ResourceQuota)) error {
			return handle.ChangeQuota(ctx, namespace, name, change)
		},
		Access:     may,
		Grants:     roles,
		Metrics:    prometheus.DefaultRegisterer,
		Namespaces: look, ServiceAccounts: look, Pods: look, PodLists: look, Nodes: look, Volumes: look, Kinds: look, LimitRanges: look, PriorityClasses: look, RuntimeClasses: look,
		StorageClasses: look, IngressClasses: look,
		IPs: plugins.Ranges(addrs), Ports: addrs.Ports, Audiences: tokens.Audiences(),
		NotReadySeconds: cfg.tolerate(cfg.NotReady), UnreachableSeconds: cfg.tolerate(cfg.Unreachable),
		MakeNamespace: func(ctx context.Context, name string) error { return handle.MakeNamespace(ctx, name) },
	}, cfg.Admission)
	if err != nil {
		return err
	}
	admit := admission.New(links)

	draining, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	handle = handlers.New(handlers.Parts{
		Registry: reg, Log: log, Draining: draining, Metrics: prometheus.DefaultRegisterer,
		Admission: admit, Access: may,
	})
	actions.Attach(reg, actions.Parts{
		Write: handle, Kubelets: kubelets, Admission: admit, Objects: look, Tokens: tokens, Bearers: who, Access: may,
		Components: []actions.Component{
			{Name: "etcd-0", Ask: db.Healthy},
			actions.Answers("scheduler", "https://127.0.0.1:10259/healthz"),
			actions.Answers("controller-manager", "https://127.0.0.1:10257/healthz"),
		},
	})
	checks := &health.Checks{}
	checks.AddLive("ping", func(context.Context) error { return nil })
	checks.AddReady("etcd", db.Healthy)
	checks.AddReady("kms-providers", keeper.Healthy)
	checks.AddReady("watch-caches", func(context.Context) error { return caches.Ready() })
	checks.AddReady("node-authorizer", func(context.Context) error { return nodes.Ready() })
	kinds := lookup.NewFlows(look)
	gate, limits, err := flowcontrol.New(cfg.Flow, kinds, kinds)
	if err != nil {
		return err
	}
	prometheus.DefaultRegisterer.MustRegister(gate, pki.Reloads)
	maps.Copy(documents, gate.Dumps())
	srv := server.New(cfg.Serving, server.Parts{
		Filters: filters.Parts{
			Who: who, May: may, Audit: trail, Flow: gate, Limits: limits, Metrics: filters.NewMetrics(prometheus.DefaultRegisterer), Log: log,
		},
		Handlers: handle, OpenAPI: openapi.New(reg), Documents: documents, Checks: checks, Drain: drain,
		Metrics: prometheus.DefaultGatherer, Register: prometheus.DefaultRegisterer,
	}, log)
	boot.Authentication = who.Published
	own, err := bootstrap.New(boot, srv.Loopback(), log)
	if err != nil {
		return err
	}
	tokens.Marks(own)
	flows, err := bootstrap.NewFlows(srv.Loopback(), gate, log)
	if err != nil {
		return err
	}
	checks.AddReady("poststarthook/rbac/bootstrap-roles", own.RolesDone)

	g := daemon.NewGroup(log)
	g.Add("encryption", keeper.Run)
	g.Add("compaction", db.Run)
	g.Add("watch caches", caches.Run)
	g.Add("node authorizer", nodes.Run)
	g.Add("authorization", access.Run)
	g.Add("address repair", addrs.Run)
	g.Add("token issuers", issuers.Run)
	g.Add("audit", trail.Run) // stops after the last request
	g.Add("https", srv.Run)
	g.Add("bootstrap", own.Run)
	g.Add("flow control", gate.Run)
	g.Add("flow schemas", flows.Run)
	return g.Run(ctx)
}
