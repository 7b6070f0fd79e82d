package target

import "flag"

// Options are what the command line says of the cluster to test.
type Options struct {
	Cluster    string // "namespaces": on this machine, by bin/cluster
	Name       string // of that cluster
	Kubeconfig string // of a cluster that exists already
}

// Flags declares the flags; their values are in the answer once flag.Parse has read the command line. go test hands over those
// after the package.
func Flags() *Options {
	o := &Options{}
	flag.StringVar(&o.Cluster, "cluster", "", `"namespaces": a cluster on this machine`)
	flag.StringVar(&o.Name, "name", "", "the name of that cluster; one that has a name stays up")
	flag.StringVar(&o.Kubeconfig, "kubeconfig", "", "test the cluster of this `file` instead")
	return o
}
