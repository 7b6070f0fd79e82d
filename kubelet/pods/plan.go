package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/probes"
)

// Wish is what a pod should be.
type Wish struct {
	// Pod is the newest object; never changed in place.
	Pod *corev1.Pod
	// End asks for its end; nil: it should run.
	End *End
	// Sizing is how amounts become limits on this node.
	Sizing Sizing
}

// End is how a pod ends.
type End struct {
	// By is when containers that still run are killed; Grace is how long that was when it was asked for.
	By    time.Time
	Grace time.Duration
	// From is when containers without a preStop hook are told to end; zero: at once.
	From time.Time
	// Phase that the pod then has; empty: Failed if a container failed, else Succeeded.
	Phase corev1.PodPhase
	// Reason and Message of the pod's status: Evicted, DeadlineExceeded …
	Reason, Message string
	// Disruption is the message of the condition DisruptionTarget; empty: the pod gets none.
	Disruption string
	// Delete: the API object is removed once all is gone. Orphan: there is none any more.
	Delete, Orphan bool
}

// Verb is what an action does.
type Verb string

// The verbs.
const (
	Step     Verb = "step"     // do the start step Name
	Pull     Verb = "pull"     // make the image of container Name present
	Start    Verb = "start"    // create and start container Name as number Attempt
	Stop     Verb = "stop"     // stop container ID by Deadline
	Hook     Verb = "hook"     // run the preStop hook of container ID, which is stopped later
	Remove   Verb = "remove"   // forget the ended container ID
	Resize   Verb = "resize"   // bring running containers and the pod's group to the sizes that the pod was given
	Rebuild  Verb = "rebuild"  // remove the dead sandbox ID, so that a new one can be made
	Teardown Verb = "teardown" // undo all start steps in reverse
	Finish   Verb = "finish"   // have the API object deleted
)

// Action is one thing to do, in a goroutine of its own.
type Action struct {
	Verb Verb
	// Name of the container or the step.
	Name string
	// ID of the container or the sandbox.
	ID      string
	Attempt int
	// Backoff goes into the label of a started container.
	Backoff time.Duration
	// Round of a started container: see anew.go.
	Round int
	// Deadline of a stop, Why for its event, NoHook: preStop has been run already, Replace: it is stopped to run with another image.
	Deadline time.Time
	Why      string
	NoHook   bool
	Replace  bool
	// Least is what the container has to hear TERM and end by itself, even when what came before it has used up the time.
	Least time.Duration
}

// key: two actions of one key are never under way at once.
func (a Action) key() string {
	switch a.Verb {
	case Start, Stop, Hook, Remove:
		return "container/" + a.Name
	case Step, Pull:
		return string(a.Verb) + "/" + a.Name
	default:
		return string(a.Verb)
	}
}

// recorded: the runtime's records of the pod may be others after the action, so they must be read again.
func (a Action) recorded() bool {
	return a.Verb != Pull && (a.Verb != Step || a.Name == "sandbox")
}

// Fault is an action that failed and is tried again.
type Fault struct {
	// Verb of the action: those on one container share a key.
	Verb            Verb
	Reason, Message string
	// Until is when it may be tried again; Count how often it failed in a row.
	Until time.Time
	Count int
}

// Seen is what the worker knows at this moment.
type Seen struct {
	Now time.Time
	// Done are the start steps done in this life of the kubelet.
	Done map[string]bool
	// Sandbox is the pod's newest, nil without one.
	Sandbox *containers.Sandbox
	// Records are the containers by name, newest first.
	Records map[string][]containers.Container
	// Doing is what is under way, by key; Faults what failed last, by key.
	Doing  map[string]Action
	Faults map[string]Fault
	// Images are the containers whose image is present for their next start.
	Images map[string]bool
	// Sick are the containers, by ID, that a probe or hook condemned.
	Sick map[string]Sickness
	// Replaced are the containers, by ID, that were stopped because their image was changed.
	Replaced map[string]bool
	// Started are the containers, by ID, that are up: postStart done, startup probe passed.
	Started map[string]bool
	// Hooked are the containers, by ID, whose preStop hook has been run.
	Hooked map[string]bool
	// Sizes are what running containers have, by ID, and Group what the pod's group has; nil while it is not known.
	Sizes map[string]Size
	Group *Size
	// Recorded: the final status has reached the API. Torn: all steps are undone. Asked: the deletion of the API object is asked for.
	Recorded, Torn, Asked bool
}

// Sickness is why a container is to be ended.
type Sickness struct {
	Why string
	// Probe that said so, whose own grace period then counts; empty: something else did.
	Probe probes.Kind
}

// Waiting is why a container does not run.
type Waiting struct{ Reason, Message string }

// Plan is the machine's answer.
type Plan struct {
	Do     []Action
	Cancel []string // keys of actions to give up
	// Again is when to ask again if nothing happens before; zero: no need.
	Again time.Time
	Phase corev1.PodPhase
	// Initialized: all init containers have passed.
	Initialized bool
	// Waiting by container name, where there is something to say.
	Waiting map[string]Waiting
	// Resizing: something that runs has not the size yet that the pod was given.
	Resizing bool
	// Anew: all containers are being started again, as a rule of one of them demands.
	Anew bool
	// Final: the phase will not change any more. Over: the worker has nothing left to do.
	Final, Over bool
}

func (p *Plan) again(at time.Time) {
	if p.Again.IsZero() || at.Before(p.Again) {
		p.Again = at
	}
}
