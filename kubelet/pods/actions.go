package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/pod"
)

// input is what an action sees of the worker's state: values that nobody changes any more.
type input struct {
	pod     *corev1.Pod
	sandbox *containers.Sandbox
	group   string
	volumes map[string]volumes.Volume
	image   images.Image
	facts   resolve.Facts
	records map[string][]containers.Container
}

func (w *worker) input(s *state) input {
	in := input{pod: s.pod, sandbox: s.seen.Sandbox, group: s.group, volumes: s.volumes, records: s.seen.Records}
	in.facts = resolve.Facts{NodeName: w.cfg.Node, HostIPs: w.cfg.NodeIPs}
	if in.sandbox != nil {
		in.facts.PodIPs = status.InOrder(in.sandbox.IPs, w.cfg.NodeIPs)
	}
	if s.pod.Spec.HostNetwork {
		in.facts.PodIPs = w.cfg.NodeIPs
	}
	if n := w.parts.Node(); n != nil {
		in.facts.Allocatable = n.Status.Allocatable
	}
	return in
}

// perform does an action. What it found is applied by the worker's goroutine.
func (w *worker) perform(ctx context.Context, a Action, in input) (apply func(*state), err error) {
	switch a.Verb {
	case Step:
		return w.step(ctx, a, in)
	case Pull:
		return w.pull(ctx, a, in)
	case Start:
		return w.start(ctx, a, in)
	case Stop:
		return w.stop(ctx, a, in)
	case Hook:
		return w.preStop(ctx, a, in)
	case Resize:
		return w.resize(ctx, in)
	case Remove:
		return nil, w.remove(ctx, a, in)
	case Rebuild:
		return w.rebuild(ctx, a, in)
	case Teardown:
		return w.teardown(ctx, in)
	case Finish:
		w.parts.Status.Delete(in.pod)
		return func(s *state) { s.seen.Asked = true }, nil
	}
	return nil, fmt.Errorf("no such action: %s", a.Verb)
}

func (w *worker) step(ctx context.Context, a Action, in input) (func(*state), error) {
	for _, st := range steps {
		if st.name == a.Name {
			apply, err := st.do(ctx, w, in)
			if err != nil {
				return nil, err
			}
			return func(s *state) {
				s.seen.Done[st.name] = true
				if apply != nil {
					apply(s)
				}
			}, nil
		}
	}
	return nil, fmt.Errorf("no such step: %s", a.Name)
}

// refusal is an error with the reason that a container's waiting state shows.
type refusal struct {
	reason string
	err    error
}

func (r refusal) Error() string { return r.err.Error() }
func (r refusal) Unwrap() error { return r.err }

// start creates and starts a container and runs its postStart hook.
func (w *worker) start(ctx context.Context, a Action, in input) (func(*state), error) {
	c, kind := pod.Container(in.pod, a.Name)
	if c == nil {
		return nil, fmt.Errorf("container %s is not in the pod", a.Name)
	}
	if in.sandbox == nil {
		return nil, fmt.Errorf("container %s has no sandbox", a.Name)
	}
	used := func(s *state) { // the next start asks for the image again: its policy may be Always
		delete(s.seen.Images, c.Name)
	}
	spec, err := w.containerSpec(ctx, in, c, a)
	if err != nil {
		return used, refusal{"CreateContainerConfigError", err}
	}
	if err := w.grant(ctx, in.pod, c, &spec); err != nil {
		return used, refusal{"CreateContainerConfigError", err}
	}
	id, err := w.parts.Containers.CreateContainer(ctx, spec)
	if err != nil {
		reason := "CreateContainerError"
		if errors.Is(err, containers.ErrRunsAsRoot) {
			reason = "CreateContainerConfigError"
		}
		return used, refusal{reason, err}
	}
	w.tell(in.pod, c.Name, corev1.EventTypeNormal, "Created", "Container created")
	if err := w.parts.Containers.StartContainer(ctx, id); err != nil {
		return used, refusal{"RunContainerError", err}
	}
	w.tell(in.pod, c.Name, corev1.EventTypeNormal, "Started", "Container started")
	up := func(s *state) {
		used(s)
		s.seen.Started[id], s.ready[id] = c.StartupProbe == nil || kind == pod.Ephemeral, c.ReadinessProbe == nil
	}
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return up, nil
	}
	if err := w.hook(ctx, c.Lifecycle.PostStart, c, id, in); err != nil {
		if ctx.Err() != nil {
			return used, ctx.Err()
		}
		w.tell(in.pod, c.Name, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed: %v", err)
		why := fmt.Sprintf("FailedPostStartHook: %v", err)
		return func(s *state) { used(s); s.seen.Sick[id] = Sickness{Why: why} }, nil
	}
	return up, nil
}

// preStop tells that a container is being stopped, and runs its hook.
func (w *worker) preStop(ctx context.Context, a Action, in input) (func(*state), error) {
	c, _ := pod.Container(in.pod, a.Name)
	why := a.Why
	if why == "" {
		why = "Stopping container " + a.Name
	}
	w.tell(in.pod, a.Name, corev1.EventTypeNormal, "Killing", "%s", why)
	hooked := func(s *state) { s.seen.Hooked[a.ID] = true }
	if c == nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		return hooked, nil
	}
	hookCtx, cancel := context.WithDeadline(ctx, a.Deadline)
	defer cancel()
	err := w.hook(hookCtx, c.Lifecycle.PreStop, c, a.ID, in)
	if ctx.Err() != nil {
		return hooked, ctx.Err()
	}
	if err != nil {
		w.tell(in.pod, a.Name, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %v", err)
	}
	return hooked, nil
}

// stop ends a container: preStop hook, TERM, and KILL at the deadline.
func (w *worker) stop(ctx context.Context, a Action, in input) (func(*state), error) {
	hooked := func(s *state) {
		s.seen.Hooked[a.ID] = true
		if a.Replace {
			s.seen.Replaced[a.ID] = true
		}
	}
	if !a.NoHook {
		if _, err := w.preStop(ctx, a, in); err != nil {
			return hooked, err
		}
	}
	left := max(time.Until(a.Deadline), a.Least) // what a hook or other containers left of the time may be nothing: TERM must still be heard
	if err := w.parts.Containers.StopContainer(ctx, a.ID, left); err != nil {
		return hooked, fmt.Errorf("stopping container %s: %w", a.Name, err)
	}
	return hooked, nil
}

// remove forgets an ended container with its log and note.
func (w *worker) remove(ctx context.Context, a Action, in input) error {
	l, err := w.parts.Observer.ListPod(ctx, string(w.uid))
	if err != nil {
		return err
	}
	if err := w.parts.Containers.RemoveContainer(ctx, a.ID); err != nil {
		return err
	}
	for _, r := range l.Containers {
		if r.ID != a.ID || r.State == containers.Created {
			continue // a container that never ran shares its number, and so its files, with the one to come
		}
		if err := removeLog(r.LogPath); err != nil {
			return err
		}
		if err := os.RemoveAll(w.noteFile(r.Name, r.Attempt)); err != nil {
			return fmt.Errorf("removing a termination message: %w", err)
		}
	}
	return nil
}

// removeLog removes a log and what was rotated out of it.
func removeLog(path string) error {
	if path == "" {
		return nil
	}
	err := os.Remove(path)
	for i := 1; err == nil; i++ {
		err = os.Remove(fmt.Sprintf("%s.%d", path, i))
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing a log: %w", err)
	}
	return nil
}

// rebuild takes a dead sandbox away, so that the start steps make another.
func (w *worker) rebuild(ctx context.Context, a Action, in input) (func(*state), error) {
	if err := w.removeSandboxes(ctx, in.pod); err != nil {
		return nil, err
	}
	w.tell(in.pod, "", corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	return func(s *state) {
		for _, name := range []string{"sandbox", "files", "group"} {
			delete(s.seen.Done, name)
		}
	}, nil
}

// teardown undoes the start steps in reverse, and forgets the pod's folder.
func (w *worker) teardown(ctx context.Context, in input) (func(*state), error) {
	for i := len(steps) - 1; i >= 0; i-- {
		if undo := steps[i].undo; undo != nil {
			if err := undo(ctx, w, in); err != nil {
				return nil, fmt.Errorf("undoing %s: %w", steps[i].name, err)
			}
		}
	}
	if err := volumes.Remove(ctx, volumes.PodDir(w.cfg.Root, w.uid)); err != nil {
		return nil, fmt.Errorf("removing the pod's folder: %w", err)
	}
	w.parts.Objects.Drop(w.uid)
	w.parts.release(w.uid)
	return func(s *state) { s.seen.Torn = true }, nil
}

// complain makes of an action's error what the pod's status and events say.
func (w *worker) complain(s *state, a Action, err error) (reason, message string) {
	message = err.Error()
	switch a.Verb {
	case Pull:
		return w.complainOfImage(s, a, err)
	case Step:
		if _, ok := images.FailureOf(err); ok {
			return w.complainOfImage(s, a, err)
		}
		for _, st := range steps {
			if st.name == a.Name {
				w.tell(s.pod, "", corev1.EventTypeWarning, st.reason, "%s", capital(message))
			}
		}
	case Start:
		reason = "CreateContainerError"
		var r refusal
		if errors.As(err, &r) {
			reason = r.reason
		}
		w.tell(s.pod, a.Name, corev1.EventTypeWarning, "Failed", "Error: %s", message)
	case Teardown, Stop, Rebuild:
		w.tell(s.pod, "", corev1.EventTypeWarning, "FailedKillPod", "%s", capital(message))
	}
	return reason, message
}

func capital(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return strings.ToUpper(s[:n]) + s[n:]
}
