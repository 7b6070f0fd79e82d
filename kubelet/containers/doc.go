// Package containers is the node's runtime: pod sandboxes, containers, exec, attach and their events, over containerd's Go client.
//
// The pod workers call it. It opens containerd for itself and for images (Client). What always holds:
//
//   - Everything a restart must find again stands in containerd's labels: List after Open tells the same as before Close, and no container notices.
//   - A sandbox has no process, but where containers share a PID namespace (pause.go). It is a folder of pins (bind mounts of network, IPC, UTS and
//     that PID namespace, and the shared /dev/shm) and a container record without a task. The record is written last: pins and processes without a
//     record are leftovers, removed by Open.
//   - Containers of a sandbox share one shim.
//   - When a process has ended, its output is read to the end, its exit is written into the labels, the Exited event is sent and then the task is deleted, in this
//     order. So whoever saw the event reads the final status and a whole log.
//
// A container's life, derived from what is recorded, never stored:
//
//	         CreateContainer          StartContainer           process ends, log drained
//	(nothing) ─────────────▶ Created ────────────────▶ Running ──────────────────────────▶ Exited ──▶ RemoveContainer
//	                            │                          │ containerd lost the task (reboot)  ▲
//	                            └── start fails ───────────┴────────────────────────────────────┘
//
// It leaves to others: what to run and when (pods), images, addresses, log files (they come as an OpenLog function).
package containers
