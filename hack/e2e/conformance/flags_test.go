package conformance

import (
	"flag"

	"pilothouse.dev/hack/e2e/target"
)

// options are what the command line says.
type options struct {
	cluster *target.Options
	all     bool // every row of the list must have passed
}

func parse() options {
	o := options{cluster: target.Flags()}
	flag.BoolVar(&o.all, "all", false, "fail if any row of the list did not pass, also one that has no test yet")
	flag.Parse()
	return o
}
