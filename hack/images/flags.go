package main

import "github.com/urfave/cli/v2"

const (
	flagOut     = "out"
	flagBusybox = "busybox"
	flagCoreDNS = "coredns"
	flagFlannel = "flannel"
)

func app(run cli.ActionFunc) *cli.App {
	return &cli.App{
		Name:            "images",
		Usage:           "build the images that tests and demos use: those named, or all that need nothing from elsewhere",
		ArgsUsage:       "[busybox testapp testcsi | coredns flannel redis nginx]",
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagOut, Value: "bin/images", Usage: "`folder` the archives are written to"},
			&cli.StringFlag{Name: flagBusybox, Value: "/bin/busybox", Usage: "the static busybox `program`"},
			&cli.StringFlag{Name: flagCoreDNS, Value: "bin/coredns", Usage: "the coredns `program` (make bin/coredns)"},
			&cli.StringFlag{Name: flagFlannel, Value: "bin/flannel", Usage: "the flannel `program` (make bin/flannel)"},
		},
		Action: run,
	}
}
