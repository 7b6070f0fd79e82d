// Command scheduler gives every pod a node: it watches pods and nodes, chooses, and posts bindings. See README.md.
package main

import (
	"context"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/uuid"

	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/daemon"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/health"
	"pilothouse.dev/pkg/leader"
	"pilothouse.dev/pkg/pki"
	"pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/cycle"
	"pilothouse.dev/scheduler/feed"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/plugins"
	"pilothouse.dev/scheduler/queue"
)

func main() {
	var cfg Config
	daemon.Main(daemon.Spec{Name: "scheduler", Usage: "gives every pod a node", Flags: flags(&cfg),
		Run: func(ctx context.Context, log *zap.Logger) error { return run(ctx, cfg, log) }})
}

func run(ctx context.Context, cfg Config, log *zap.Logger) error {
	rest, err := client.Load(cfg.Kubeconfig, "scheduler")
	if err != nil {
		return err
	}
	clients, err := client.New(client.Patient(rest))
	if err != nil {
		return err
	}
	numbers, checks := prometheus.NewRegistry(), &health.Checks{}
	numbers.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), pki.Reloads)
	recorder := events.New(clients.Kube, cfg.SchedulerName, "")
	informers := client.Informers(clients.Kube)
	rules := framework.NewSet(plugins.Table, framework.Parts{Kube: clients.Kube, Informers: informers})
	waiting, placed := queue.New(rules), cache.New()
	source := feed.New(cfg.SchedulerName, informers, waiting, placed, log)
	scheduling := cycle.New(cycle.Parts{
		Queue: waiting, Cache: placed, Plugins: rules, Events: recorder, Ready: source.Ready,
		API:     cycle.Over(clients.Kube),
		Metrics: cycle.NewMetrics(numbers, cfg.SchedulerName, waiting, placed),
	}, log)

	g := daemon.NewGroup(log)
	g.Add("health", health.New(cfg.health(), checks, numbers).Run)
	g.Add("events", recorder.Run)
	g.Add("feed", source.Run) // before we lead: a standby takes over with all in memory
	checks.AddReady("picture", source.Check)
	if cfg.LeaderElect {
		host, _ := os.Hostname()
		lease := leader.Config{Kube: clients.Kube, Namespace: "kube-system", Name: "kube-scheduler", Identity: host + "_" + string(uuid.NewUUID())}
		g.Add("cycle", func(ctx context.Context) error { return leader.Keep(ctx, log, lease, scheduling.Run) })
	} else {
		g.Add("cycle", scheduling.Run)
	}
	return g.Run(ctx)
}
