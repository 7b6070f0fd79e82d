// Command apiserver serves the Kubernetes API and is the only writer to etcd.
package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

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
	metrics := prometheus.DefaultRegisterer
	cfg.Audit.Drain = cfg.Serving.DrainTimeout
	trail, err := audit.New(cfg.Audit, metrics, log)
	if err != nil {
		return err
	}
	st, err := open(cfg, metrics, log)
	if err != nil {
		return err
	}
	defer st.db.Close()
	kubelets, err := nodeproxy.New(cfg.Kubelets, st.look)
	if err != nil {
		return err
	}
	id, err := identities(cfg, st.look, metrics, log)
	if err != nil {
		return err
	}
	roles, nodes := rbac.New(st.look.RoleFeeds()), node.New(st.look.NodeFeeds(), log)
	may, err := modes.New(cfg.Authz, modes.Parts{RBAC: roles, Node: nodes, Metrics: metrics, Log: log})
	if err != nil {
		return err
	}
	flows := lookup.NewFlows(st.look)
	gate, limits, err := flowcontrol.New(cfg.Flow, flows, flows)
	if err != nil {
		return err
	}
	metrics.MustRegister(gate, pki.Reloads)

	draining, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	var handle *handlers.Handlers // admission writes too: the quotas that it charges, the addresses that it gives
	addrs, err := addresses(cfg, st, func() *handlers.Handlers { return handle }, log)
	if err != nil {
		return err
	}
	links, err := plugins.Table(plugins.Parts{
		Access: may, Grants: roles, Metrics: metrics, Quotas: lookup.NewQuotas(st.look),
		Namespaces: st.look, ServiceAccounts: st.look, Pods: st.look, PodLists: st.look, Nodes: st.look, Volumes: st.look, Kinds: st.look,
		LimitRanges: st.look, PriorityClasses: st.look, RuntimeClasses: st.look, StorageClasses: st.look, IngressClasses: st.look,
		IPs: plugins.Ranges(addrs), Ports: addrs.Ports, Audiences: id.tokens.Audiences(),
		NotReadySeconds: cfg.tolerate(cfg.NotReady), UnreachableSeconds: cfg.tolerate(cfg.Unreachable),
		MakeNamespace: func(ctx context.Context, name string) error { return handle.MakeNamespace(ctx, name) },
		ChangeQuota: func(ctx context.Context, namespace, name string, change func(*corev1.ResourceQuota)) error {
			return handle.ChangeQuota(ctx, namespace, name, change)
		},
	}, cfg.Admission)
	if err != nil {
		return err
	}
	admit := admission.New(links)
	handle = handlers.New(handlers.Parts{Registry: st.reg, Admission: admit, Access: may, Log: log, Draining: draining, Metrics: metrics})
	actions.Attach(st.reg, actions.Parts{
		Write: handle, Kubelets: kubelets, Admission: admit, Objects: st.look, Tokens: id.tokens, Bearers: id.who, Access: may,
		Components: []actions.Component{
			{Name: "etcd-0", Ask: st.db.Healthy},
			actions.Answers("scheduler", "https://127.0.0.1:10259/healthz"),
			actions.Answers("controller-manager", "https://127.0.0.1:10257/healthz"),
		},
	})
	maps.Copy(id.documents, gate.Dumps())
	checks := &health.Checks{}
	srv := server.New(cfg.Serving, server.Parts{
		Filters:  filters.Parts{Who: id.who, May: may.Authorizer, Audit: trail, Flow: gate, Limits: limits, Metrics: filters.NewMetrics(metrics), Log: log},
		Handlers: handle, OpenAPI: openapi.New(st.reg), Documents: id.documents, Checks: checks, Drain: drain,
		Metrics: prometheus.DefaultGatherer, Register: metrics,
	}, log)
	own, kept, err := contents(cfg, srv.Loopback(), id.who, gate, log)
	if err != nil {
		return err
	}
	id.tokens.Marks(own)

	checks.AddLive("ping", func(context.Context) error { return nil })
	checks.AddReady("etcd", st.db.Healthy)
	checks.AddReady("kms-providers", st.keeper.Healthy)
	checks.AddReady("watch-caches", func(context.Context) error { return st.caches.Ready() })
	checks.AddReady("node-authorizer", func(context.Context) error { return nodes.Ready() })
	checks.AddReady("poststarthook/rbac/bootstrap-roles", own.RolesDone)
	g := daemon.NewGroup(log)
	g.Add("encryption", st.keeper.Run)
	g.Add("compaction", st.db.Run)
	g.Add("watch caches", st.caches.Run)
	g.Add("address repair", addrs.Run)
	g.Add("node authorizer", nodes.Run)
	g.Add("authorization", may.Run)
	g.Add("token issuers", id.issuers.Run)
	g.Add("flow control", gate.Run)
	g.Add("audit", trail.Run) // stops after the last request
	g.Add("https", srv.Run)
	g.Add("bootstrap", own.Run)
	g.Add("flow schemas", kept.Run)
	return g.Run(ctx)
}

// stored is what is kept, from etcd upwards to how rooms read it.
type stored struct {
	keeper *encryption.Keeper
	db     *etcd.DB
	caches *watchcache.Caches
	reg    *registry.Registry
	look   *lookup.Lookup
}

func open(cfg Config, metrics prometheus.Registerer, log *zap.Logger) (st stored, err error) {
	if st.keeper, err = encryption.Open(cfg.Encryption, metrics, log); err != nil {
		return st, err
	}
	cfg.Etcd.Sealer = st.keeper
	if st.db, err = etcd.Open(cfg.Etcd, log); err != nil {
		return st, fmt.Errorf("opening etcd: %w", err)
	}
	st.caches = watchcache.New(st.db, log)
	st.reg = registry.New(st.caches, resources.Table)
	for _, r := range st.reg.All() {
		if r.GVK.Kind == "Event" {
			r.TTL = func(registry.Object) time.Duration { return cfg.EventTTL }
		}
	}
	st.look = lookup.New(st.reg)
	return st, nil
}

// addresses is who gives services their addresses and ports; handle is there when the first is asked for.
func addresses(cfg Config, st stored, handle func() *handlers.Handlers, log *zap.Logger) (*allocator.Allocator, error) {
	ranges, err := cfg.addresses()
	if err != nil {
		return nil, err
	}
	a, err := allocator.New(ranges, allocator.Parts{
		Ports: st.db, Cluster: lookup.NewAddresses(st.look), Log: log,
		Make: func(ctx context.Context, ip netip.Addr, owner allocator.Owner) error {
			return handle().MakeAddress(ctx, ip, owner)
		},
		Drop: func(ctx context.Context, ip netip.Addr, owner allocator.Owner) error {
			return handle().DropAddress(ctx, ip, owner)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("preparing service addresses: %w", err)
	}
	return a, nil
}

// callers is who may be told by which proof, and what the issuer of tokens publishes.
type callers struct {
	tokens    *authn.Tokens
	issuers   *oidc.Issuers
	who       *authn.Authenticator
	documents map[string]http.HandlerFunc
}

func identities(cfg Config, look *lookup.Lookup, metrics prometheus.Registerer, log *zap.Logger) (id callers, err error) {
	if id.tokens, err = authn.NewTokens(cfg.tokens(), look, log); err != nil {
		return id, err
	}
	if id.documents, err = id.tokens.Documents(); err != nil {
		return id, err
	}
	if id.issuers, err = oidc.New(cfg.oidc(), metrics, log); err != nil {
		return id, err
	}
	id.who, err = authn.Open(cfg.authn(), authn.Parts{Tokens: id.tokens, Issuers: id.issuers, Objects: look, Metrics: metrics, Log: log})
	return id, err
}

// contents is what keeps the cluster's own objects there.
func contents(cfg Config, self *rest.Config, who *authn.Authenticator, gate *flowcontrol.Gate, log *zap.Logger) (*bootstrap.Bootstrap, *bootstrap.Flows, error) {
	boot, err := cfg.bootstrap()
	if err != nil {
		return nil, nil, err
	}
	boot.Authentication = who.Published
	own, err := bootstrap.New(boot, self, log)
	if err != nil {
		return nil, nil, err
	}
	kept, err := bootstrap.NewFlows(self, gate, log)
	return own, kept, err
}
