package main

import "github.com/urfave/cli/v2"

// config is what the flags say.
type config struct {
	name, node   string
	endpoint     string
	registration string
	data         string
	versions     cli.StringSlice
	topology     cli.StringSlice
	without      cli.StringSlice
	most         int64
}

func app(c *config, run cli.ActionFunc) *cli.App {
	return &cli.App{
		Name:            "testcsi",
		Usage:           "a CSI driver for tests, whose volumes are folders",
		HideHelpCommand: true,
		Action:          run,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Value: "test.csi.pilothouse.dev", Destination: &c.name, EnvVars: []string{"DRIVER"}, Usage: "`NAME` of the driver"},
			&cli.StringFlag{Name: "node", Value: "node", Destination: &c.node, EnvVars: []string{"NODE"}, Usage: "how the driver calls this node"},
			&cli.StringFlag{Name: "endpoint", Required: true, Destination: &c.endpoint, Usage: "`SOCKET` to serve at"},
			&cli.StringFlag{Name: "registration", Destination: &c.registration, Usage: "`SOCKET` in the kubelet's plugins_registry to present itself at; empty: it does not"},
			&cli.StringFlag{Name: "data", Required: true, Destination: &c.data, Usage: "`FOLDER` of volumes, faults and the list of calls"},
			&cli.StringSliceFlag{Name: "version", Value: cli.NewStringSlice("1.0.0"), Destination: &c.versions, Usage: "`VERSIONS` of CSI to claim"},
			&cli.StringSliceFlag{Name: "topology", Destination: &c.topology, Usage: "`KEY=VALUE` of where the node is"},
			&cli.StringSliceFlag{Name: "without", Destination: &c.without, Usage: "`CAPABILITY` not to have, as STAGE_UNSTAGE_VOLUME"},
			&cli.Int64Flag{Name: "max-volumes", Destination: &c.most, Usage: "most volumes of this node; 0 for any number"},
		},
	}
}
