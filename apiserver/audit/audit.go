// Package audit records who asked what of this server, and what became of it
// (https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/). A policy file says which requests, and how much of each; events go
// to a log file, to a web service, or to both.
//
// The filter that audits asks Trail.Begin for each request and tells the Entry what happens. What only the inner rooms know comes
// by the request's record (request.Note, Sent, Answered). Bodies are kept only at the levels Request and RequestResponse: at
// Metadata nothing of an object is recorded but whose it is and its name. The bodies of secrets, tokens and their reviews are recorded
// like any other by a policy that asks for them: rules for these belong above those for all.
//
// Each sink has a bounded buffer and one goroutine that writes; what it does not take is dropped and counted, so that a full disk
// or a dead service costs events and never requests. How long a request waits says the mode: not at all (batch), until its event is
// written but never for long once the sink is stuck (blocking), or as long as it takes, to be refused when its first event cannot
// be written (blocking-strict).
package audit
