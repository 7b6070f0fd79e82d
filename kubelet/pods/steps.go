package pods

import "context"

// step is one thing that a pod needs before its first container. The undo half is safe if the do half never ran, was interrupted, or ran in a
// former life of the kubelet; the do half may run again beside running containers and then disturbs nothing.
type step struct {
	name  string
	after []string
	// reason of the event when it fails.
	reason string
	// do makes it so; what it found is applied by the worker's goroutine.
	do   func(context.Context, *worker, input) (func(*state), error)
	undo func(context.Context, *worker, input) error
}

// steps is the ordered start of a pod. Those that don't wait for one another run side by side; the undo goes through the list in reverse, one by one.
var steps = []step{
	{name: "group", reason: "FailedCreatePodContainer", do: doGroup, undo: undoGroup},
	{name: "volumes", reason: "FailedMount", do: doVolumes, undo: undoVolumes},
	{name: "sandbox", reason: "FailedCreatePodSandBox", do: doSandbox, undo: undoSandbox},
	{name: "files", after: []string{"sandbox"}, reason: "FailedCreatePodContainer", do: doFiles},
}
