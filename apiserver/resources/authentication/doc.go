// Package authentication declares the kinds of the group authentication.k8s.io, a file each. All of them are virtual: a request
// is answered and nothing is stored. The answers are made in the room actions.
package authentication

const group, version = "authentication.k8s.io", "v1"

// verbs are all a question has.
var verbs = []string{"create"}
