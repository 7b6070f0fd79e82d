// Package resource declares the kinds of the group resource.k8s.io (dynamic resource allocation), a file each; see resources/core
// for what a kind's file holds (https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/). CEL
// expressions are checked to be there and not too long; who evaluates one compiles it.
package resource

const group, version = "resource.k8s.io", "v1"
