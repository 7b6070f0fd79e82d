// Command bench measures Pilothouse on a local cluster and writes what it finds as a page of tables. Every figure stands beside
// the physical limit measured in the same run on the same machine: the same transactions straight to etcd, the same containers
// made by containerd's client alone. It is the ratio that can be compared between machines and days.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := app(func(c *cli.Context) error { return run(c.Context, configOf(c)) }).RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures in an order in which no part disturbs the next: the start, pods on an idle cluster, memory,
// then the API on a server of its own.
func run(ctx context.Context, cfg config) (err error) {
	b, err := open(cfg)
	if err != nil {
		return err
	}
	defer func() {
		if cfg.Keep {
			return
		}
		if derr := b.cluster("down"); err == nil {
			err = derr
		}
	}()
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{
		{"start", b.start},
		{"idle memory", b.idleMemory},
		{"pods", b.pods},
		{"memory under load", b.loadedMemory},
		{"kubelet", b.kubelet},
		{"network", b.network},
		{"controllers", b.controllers},
		{"API", b.apiServer},
	} {
		if cfg.API && part.name != "API" || cfg.Controllers && part.name != "controllers" || cfg.Kubelet && part.name != "kubelet" || cfg.Network && part.name != "network" {
			continue
		}
		fmt.Printf("measuring: %s\n", part.name)
		if err := part.measure(ctx); err != nil {
			return fmt.Errorf("measuring %s: %w", part.name, err)
		}
	}
	return b.report.write(cfg.Out)
}
