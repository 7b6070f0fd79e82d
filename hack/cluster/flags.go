package main

import "github.com/urfave/cli/v2"

// config is what the flags say.
type config struct {
	Name   string
	Dir    string
	Bin    string
	Nodes  int
	Range  int
	Uplink bool
	NoDNS  *bool // nil: nothing was said

	Families []family // none: nothing was said
}

const (
	flagName   = "name"
	flagDir    = "dir"
	flagBin    = "bin"
	flagNodes  = "nodes"
	flagRange  = "range"
	flagUplink = "uplink"
	flagDNS    = "dns"
	flagDual   = "dual-stack"
	flagFollow = "f"

	flagFamilies = "ip-families"
)

func app(commands []*cli.Command) *cli.App {
	return &cli.App{
		Name:  "cluster",
		Usage: "run whole clusters on this machine: a network namespace a node",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagName, Value: "local", EnvVars: []string{"CLUSTER_NAME"}, Usage: "the cluster's `name`"},
			&cli.StringFlag{Name: flagDir, Usage: "the `folder` for all it keeps (default: .cluster/NAME)"},
			&cli.StringFlag{Name: flagBin, Usage: "the `folder` of the programs (default: where this one is)"},
		},
		Commands:        commands,
		HideHelpCommand: true,
	}
}

func upFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: flagNodes, Value: 3, Usage: "have at least so `many` nodes"},
		&cli.IntFlag{Name: flagRange, Value: -1, Usage: "use the `n`th range of addresses and ports (default: the first free one)"},
		&cli.StringFlag{Name: flagFamilies, Usage: "have addresses of these `families`: ipv4, ipv6, or both with a comma between, the one that counts first first (default: ipv4)"},
		&cli.BoolFlag{Name: flagDual, Usage: "the same as -ip-families ipv4,ipv6"},
		&cli.BoolFlag{Name: flagUplink, Usage: "let nodes and pods reach the world through this machine"},
		&cli.BoolFlag{Name: flagDNS, Value: true, Usage: "have the cluster's name server (-dns=false: it is left out)"},
	}
}

func logFlags() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: flagFollow, Usage: "go on as it grows"}}
}

func configOf(x *cli.Context) config {
	return config{
		Name: x.String(flagName), Dir: x.String(flagDir), Bin: x.String(flagBin),
		Nodes: x.Int(flagNodes), Range: x.Int(flagRange), Uplink: x.Bool(flagUplink),
	}
}

// upConfig is what the flags of up say.
func upConfig(x *cli.Context) (cfg config, err error) {
	cfg = configOf(x)
	if x.IsSet(flagDNS) {
		no := !x.Bool(flagDNS)
		cfg.NoDNS = &no
	}
	cfg.Families, err = readFamilies(x.String(flagFamilies), x.Bool(flagDual))
	return cfg, err
}
