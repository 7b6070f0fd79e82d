// Package podspec holds the defaults and the validation of pods and of the templates in everything that makes pods. A
// template gets DefaultTemplate and ValidateTemplate; a pod gets the same and what concerns pods only. All functions are
// pure; messages and field paths are those that users of Kubernetes know, because tools read them.
//
// A file a thought: defaults*.go fill, update.go says what may change in a living pod, warn.go what is unwise, the others
// validate a part of the spec each.
package podspec
