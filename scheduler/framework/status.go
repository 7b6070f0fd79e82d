package framework

import "strings"

// Code is a Status in one word.
type Code int

// The codes.
const (
	Success Code = iota
	// Skip: the plugin has nothing to say here.
	Skip
	// Unschedulable: refused as things are; another try when something changes, and evicting pods might help.
	Unschedulable
	// Unresolvable: refused, and no eviction would help.
	Unresolvable
	// Error: the plugin could not tell. The trip ends and is tried again.
	Error
)

// Status is a plugin's answer; nil is Success. A Status is immutable: plugins make those without details once.
type Status struct {
	Code    Code
	Plugin  string
	Reasons []string // each as a user reads it after a number: `3 Insufficient cpu`
	Err     error    // with Error
}

// Refuse makes an Unschedulable status.
func Refuse(plugin string, reasons ...string) *Status {
	return &Status{Code: Unschedulable, Plugin: plugin, Reasons: reasons}
}

// RefuseForGood makes an Unresolvable status.
func RefuseForGood(plugin string, reasons ...string) *Status {
	return &Status{Code: Unresolvable, Plugin: plugin, Reasons: reasons}
}

// Fail makes an Error status.
func Fail(plugin string, err error) *Status { return &Status{Code: Error, Plugin: plugin, Err: err} }

// OK says whether s lets the pod pass.
func (s *Status) OK() bool { return s == nil || s.Code == Success || s.Code == Skip }

// Message is all reasons in one line.
func (s *Status) Message() string {
	if s == nil {
		return ""
	}
	if s.Err != nil {
		return s.Err.Error()
	}
	return strings.Join(s.Reasons, ", ")
}

// Skipped is the answer of a plugin that has nothing to say.
var Skipped = &Status{Code: Skip}
