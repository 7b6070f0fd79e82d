// Package manifests is what a cluster wants beside its daemons, as manifests that `kubectl apply -f` takes too, and that who starts clusters
// has within his program: it works wherever it is put.
package manifests

import _ "embed" // for the manifest

// DNS is the cluster's name server: a stream of objects in YAML, in the order in which they are made.
//
//go:embed dns.yaml
var DNS string
