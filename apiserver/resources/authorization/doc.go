// Package authorization declares the kinds of the group authorization.k8s.io, a file each. All of them are virtual: a request is
// answered and nothing is stored. The answers are made in the room actions, which asks a kind's Validate first.
package authorization

const group, version = "authorization.k8s.io", "v1"

// verbs are all a question has.
var verbs = []string{"create"}
