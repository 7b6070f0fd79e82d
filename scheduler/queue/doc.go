// Package queue holds the pods that want a node and decides which is tried next, and when. The feed adds, updates and
// deletes them and tells of events; the cycle pops them and says how each trip ended.
//
// A pod is in exactly one place:
//
//	Add ─▶ gated? ──yes──▶ waiting (gated) ──Update: gates gone──┐
//	         │no                                                 │
//	         ▼            Pop                                    │
//	┌─────▶ active ───────────────▶ in flight ──Done──▶ (none)   │
//	│        ▲  ▲                    │      │                    │
//	│        │  │             Park   │      │ Retry              │
//	│  due   │  │   an event may help│      │ (an error, or an   │
//	│        │  │   and its backoff  ▼      │  event that may    │
//	│        │  └─── is over ──── waiting   │  help came while   │
//	│        │                       │      │  it was in flight) │
//	│      backing off ◀─────────────┴──────┘                    │
//	└────────────────────────────────────────────────────────────┘
//	Delete leads from everywhere to (none); a deleted pod in flight is dropped when its trip ends.
//
// Which event may help which pod is the business of the plugins that refused it: hints.go. An event that arrives while a pod
// is in flight is remembered until its trip ends, so none is lost between the snapshot and the refusal. Should a hint be
// wrong, a pod is tried again after five minutes anyway.
//
// Active pods leave by priority, then by the age of their wish. Backing off lasts 1 s after the first failure and doubles up
// to 10 s. The queue has no goroutine: the one that pops also turns the clock.
package queue
