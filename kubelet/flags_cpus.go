package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"pilothouse.dev/kubelet/cpus"
)

// Processors is who gets processors alone.
type Processors struct {
	Policy    string
	Options   cli.StringSlice // KEY=VALUE
	Reconcile time.Duration
}

func (p *Processors) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cpu-manager-policy", Value: cpus.None, Destination: &p.Policy, Usage: "none, or static: containers of guaranteed pods that ask for whole processors get them alone"},
		&cli.StringSliceFlag{Name: "cpu-manager-policy-options", Destination: &p.Options, Usage: "`KEY=VALUE` of the static policy: full-pcpus-only, strict-cpu-reservation"},
		&cli.DurationFlag{Name: "cpu-manager-reconcile-period", Value: 10 * time.Second, Destination: &p.Reconcile, Usage: "how long after a change running containers are looked at once more"},
	}
}

func (c *Config) cpus() cpus.Config {
	return cpus.Config{Policy: c.Processors.Policy, Options: c.Processors.Options.Value(), Reserved: c.ReservedCPUs, ReservedMilli: c.reserve.CPU, Reconcile: c.Processors.Reconcile}
}
