// Package admissionregistration declares the kinds of the group admissionregistration.k8s.io, a file each; see resources/core for
// what a kind's file holds. What webhooks and policies do is not here, nor whether their CEL expressions are well-formed: who
// evaluates an expression compiles it.
package admissionregistration

const group, version = "admissionregistration.k8s.io", "v1"

var categories = []string{"api-extensions"}
