// Command controller-manager runs the loops that bring what is nearer to what should be: a table of controllers over one set
// of caches, under a leader lease. See README.md, and controllers.go for the table.
package main

import (
	"context"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/uuid"

	"pilothouse.dev/controller-manager/accounts"
	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/daemon"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/health"
	"pilothouse.dev/pkg/leader"
	"pilothouse.dev/pkg/pki"
)

func main() {
	var cfg Config
	daemon.Main(daemon.Spec{Name: "controller-manager", Usage: "brings what is nearer to what should be", Flags: flags(&cfg),
		Run: func(ctx context.Context, log *zap.Logger) error { return run(ctx, cfg, log) }})
}

func run(ctx context.Context, cfg Config, log *zap.Logger) error {
	if err := cfg.check(); err != nil {
		return err
	}
	if cfg.Graph {
		return loop.Graph(os.Stdout, controllers(cfg))
	}
	table, err := enabled(controllers(cfg), cfg.Controllers.Value())
	if err != nil {
		return err
	}
	rest, err := client.Load(cfg.Kubeconfig, "controller-manager")
	if err != nil {
		return err
	}
	clients, err := client.New(client.Patient(rest))
	if err != nil {
		return err
	}
	recorder := events.New(clients.Kube, "controller-manager", "")
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), pki.Reloads)
	var as loop.Identities
	if cfg.OwnAccounts {
		anonymous, err := client.Anonymous(client.Patient(rest))
		if err != nil {
			return err
		}
		as = accounts.New(anonymous, clients.Kube.CoreV1()).As
	}
	crew := loop.NewCrew(table, clients, as, recorder, metrics, log)
	work := crew.Run
	if cfg.LeaderElect {
		work = func(ctx context.Context) error { return lead(ctx, log, clients, crew.Run) }
	}
	var checks health.Checks
	checks.AddReady("caches", crew.Check)

	g := daemon.NewGroup(log)
	g.Add("health", health.New(cfg.health(), &checks, metrics).Run)
	g.Add("events", recorder.Run)
	g.Add("controllers", work)
	return g.Run(ctx)
}

// lead works while the lease is held. A lease lost, as when the API server was away for long, is asked for again: a term
// remembers nothing of the one before, so the process need not start anew.
func lead(ctx context.Context, log *zap.Logger, clients *client.Clients, work func(context.Context) error) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	lease := leader.Config{Kube: clients.Kube, Namespace: "kube-system", Name: "kube-controller-manager", Identity: host + "_" + string(uuid.NewUUID())}
	return leader.Keep(ctx, log, lease, work)
}
