// Package pods runs the pods of this node: one goroutine a pod, one slot for its newest wish, and a pure machine that says what to do next.
//
// main hands over the rooms below as small interfaces (Parts) and the stream of wished pods. What always holds: of one container, one start, stop or
// removal is under way at a time; a newer wish is heard while the older one is still being worked on; what a worker knows it can find again after a
// restart from containerd's labels and the pod's status in the API, so a restart of the kubelet disturbs no container.
//
// The machine (machine.go) is called whenever anything happened: a wish, an event of the runtime, a probe, a finished action, a timer. It gets
// the wish and what is seen, and names the actions that should begin now and those that should be given up. Nothing is remembered between calls but
// what is under way. So the states of a pod are derived, never stored:
//
//	          ┌────────── rejected by admit.go (Failed) ─────────────────────────────┐
//	wish ─────┤                                                                      ▼
//	          └─▶ starting ─────▶ initializing ─────▶ running ─────▶ over ───────▶ settled
//	               │ steps.go       │ init containers   │ all        (Succeeded,    │ resources given
//	               │                │ one by one        │ at once     Failed)       │ back; waits for
//	               │                │                   │                           │ its deletion
//	               └────────────────┴───────────────────┴──── deleted ──────────────┤
//	                                                          evicted, deadline     ▼
//	                             ending: stop containers, then sidecars ──▶ torn down ──▶ API object deleted ──▶ gone
//
// A container, within starting, initializing and running:
//
//	(none) ──pull──▶ image there ──start──▶ Running ──▶ Exited ──▶ waits its back-off ──▶ pull …
//	                                           │           ▲
//	                                           └── stop ───┘  a probe says so, its image was changed, the pod ends
//
// Whatever a pod's spec makes panic ends that one turn or action (guard.go); its phase never goes back; a rule of one container may have all of
// them begin anew in the same sandbox (anew.go).
//
// What a pod asks for may change while it runs. It runs with what it was given (allocation.go): Workers let a resize in when the node has room for it
// (resize.go, resizing.go), the machine names the action Resize for what can change in place and stops what must start again (resize_machine.go).
package pods
