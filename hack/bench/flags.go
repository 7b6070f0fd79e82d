package main

import "github.com/urfave/cli/v2"

// config is what the flags say.
type config struct {
	Out         string
	Bin         string
	Name        string
	Objects     int
	Keep        bool
	API         bool
	Controllers bool
	Kubelet     bool
	Network     bool
	Part        string
	Profiles    string
}

func app(run cli.ActionFunc) *cli.App {
	return &cli.App{
		Name:            "bench",
		Usage:           "measure a local cluster, beside the limits of this machine",
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Value: "hack/bench/RESULTS.md", Usage: "the `file` to write"},
			&cli.StringFlag{Name: "bin", Value: "bin", Usage: "the `folder` of the programs"},
			&cli.StringFlag{Name: "name", Value: "bench", Usage: "the `name` of the cluster that is made for it"},
			&cli.IntFlag{Name: "objects", Value: 10000, Usage: "how `many` objects are written"},
			&cli.BoolFlag{Name: "api", Usage: "measure the API only"},
			&cli.BoolFlag{Name: "controllers", Usage: "measure the controllers only"},
			&cli.BoolFlag{Name: "kubelet", Usage: "measure one node only"},
			&cli.BoolFlag{Name: "network", Usage: "measure services only"},
			&cli.StringFlag{Name: "part", Usage: "of the API, measure the start and this `part` only: objects, fan-out, returning or fairness"},
			&cli.StringFlag{Name: "profiles", Usage: "keep CPU profiles of the API server in this `folder`; they cost it some speed"},
			&cli.BoolFlag{Name: "keep", Usage: "leave the cluster up"},
		},
		Commands: []*cli.Command{{
			Name: floodCommand, Hidden: true, Usage: "what the measure of fairness starts",
			Action: func(c *cli.Context) error {
				a := c.Args()
				return flood(c.Context, a.Get(0), a.Get(1), a.Get(2), a.Get(3))
			},
		}},
		Action: run,
	}
}

func configOf(c *cli.Context) config {
	return config{Out: c.String("out"), Bin: c.String("bin"), Name: c.String("name"), Objects: c.Int("objects"), Keep: c.Bool("keep"), API: c.Bool("api"), Controllers: c.Bool("controllers"), Kubelet: c.Bool("kubelet"), Network: c.Bool("network"), Part: c.String("part"), Profiles: c.String("profiles")}
}
