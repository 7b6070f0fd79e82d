package daemon

import (
	"github.com/urfave/cli/v2"

	"pilothouse.dev/pkg/logging"
)

// versionFlag has no short name: -v is how much is logged, elsewhere.
func versionFlag() cli.Flag {
	return &cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true}
}

// commonFlags are what every daemon has.
func commonFlags(lc *logging.Config) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warn or error", Destination: &lc.Level},
		&cli.StringFlag{Name: "log-format", Value: "json", Usage: "json or console", Destination: &lc.Format},
	}
}
