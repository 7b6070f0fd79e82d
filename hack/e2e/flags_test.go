package e2e

import "flag"

// options are what the command line says of the cluster to test.
type options struct {
	cluster    string // "namespaces": on this machine, by bin/cluster
	name       string // of that cluster
	kubeconfig string // of a cluster that exists already
}

// parse reads the flags; go test hands over those after the package.
func parse() options {
	var o options
	flag.StringVar(&o.cluster, "cluster", "", `"namespaces": a cluster on this machine`)
	flag.StringVar(&o.name, "name", "", "the name of that cluster; one that has a name stays up")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "test the cluster of this `file` instead")
	flag.Parse()
	return o
}
