package policy

import (
	"flag"

	"pilothouse.dev/hack/e2e/target"
)

// parse reads the command line.
func parse() *target.Options {
	o := target.Flags()
	flag.Parse()
	return o
}
