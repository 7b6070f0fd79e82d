// Package flowcontrol declares the kinds of the group flowcontrol.apiserver.k8s.io, a file each; see resources/core for what a
// kind's file holds (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/).
package flowcontrol

const group, version = "flowcontrol.apiserver.k8s.io", "v1"

const (
	all  = "*" // any verb, group, resource, namespace or path, and then the only one of its list
	none = "<none>"
)
