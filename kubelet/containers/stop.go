package containers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/errdefs"
	"github.com/moby/sys/signal"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	stoppedStatus = task.Status_STOPPED
	exitUnknown   = 137
	exitKilled    = 128 + int(unix.SIGKILL)
)

// StopContainer sends the stop signal, waits grace, then kills; it returns when the container is Exited. Grace 0 kills at once. Stopping what
// doesn't run is no error.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	ctx = r.scope(ctx)
	r.lock(kindContainer, id)() // lets a start in flight come to its end
	rec, err := r.record(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if containerFrom(id, rec.Labels, rec.CreatedAt).State == Exited {
		return r.finish(ctx, id, nil)
	}
	exited := make(chan error, 1)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, err := r.client.TaskService().Wait(waiting, &tasks.WaitRequest{ContainerID: id})
		exited <- errdefs.FromGRPC(err)
	}()
	first := unix.SIGKILL
	if grace > 0 {
		first = stopSignal(rec.Labels[labelStopSignal])
	}
	gone, err := r.kill(ctx, id, first)
	if err != nil {
		return err
	}
	if !gone && first != unix.SIGKILL {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case err = <-exited:
			gone = true
		case <-timer.C:
			gone, err = r.kill(ctx, id, unix.SIGKILL)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !gone && err == nil {
		err = <-exited // ends with ctx at the latest
	}
	if err != nil && !errdefs.IsNotFound(err) {
		// Its shim may have died under our eyes; then containerd ends the container.
		if err := errors.Join(err, r.awaitNoTask(ctx, id)); !errors.Is(err, errNoTask) {
			return fmt.Errorf("waiting for container %s to end: %w", id, err)
		}
	}
	return r.finish(ctx, id, nil)
}

// kill says gone when there is no process to signal any more.
func (r *Runtime) kill(ctx context.Context, id string, sig unix.Signal) (gone bool, err error) {
	_, err = r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(sig), All: sig == unix.SIGKILL})
	err = errdefs.FromGRPC(err)
	if errdefs.IsNotFound(err) {
		return true, nil
	}
	if err == nil {
		return false, nil
	}
	if err := errors.Join(err, r.awaitNoTask(ctx, id)); !errors.Is(err, errNoTask) {
		return false, fmt.Errorf("signalling container %s: %w", id, err)
	}
	return true, nil
}

// errNoTask is what awaitNoTask finds when it waited with success.
var errNoTask = errors.New("task is gone")

// awaitNoTask waits for containerd to clean up after a dead shim, of whose tasks it knows nothing any more. A task in any other state is not
// waited for.
func (r *Runtime) awaitNoTask(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
		if err = errdefs.FromGRPC(err); errdefs.IsNotFound(err) {
			return errNoTask
		}
		if err != nil {
			return fmt.Errorf("reading task: %w", err)
		}
		if got.Process.Status != task.Status_UNKNOWN {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stopSignal reads a signal by name or number; TERM where it is unknown or empty.
func stopSignal(name string) unix.Signal {
	if name == "" {
		return unix.SIGTERM
	}
	sig, err := signal.ParseSignal(name)
	if err != nil {
		return unix.SIGTERM
	}
	return sig
}

// exit is how a process ended.
type exit struct {
	at   time.Time
	code int
}

// finish records the exit of a container whose process has ended, tells, and deletes the task. The record comes first: so a container that should
// have a task and has none was lost, and is not just being finished. told is what an event said of the end, or nil: it counts where the shim that could
// be asked is gone.
func (r *Runtime) finish(ctx context.Context, id string, told *exit) error {
	defer r.lock(kindContainer, id)()
	rec, err := r.record(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c := containerFrom(id, rec.Labels, rec.CreatedAt)
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	err = errdefs.FromGRPC(err)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("reading task: %w", err)
	}
	gone := err != nil
	switch {
	case !gone && got.Process.Status == stoppedStatus:
		if c.State != Exited {
			if err := r.recordExit(ctx, c, exit{at: got.Process.ExitedAt.AsTime(), code: int(got.Process.ExitStatus)}); err != nil {
				return err
			}
		}
		return r.deleteTask(ctx, c)
	case c.State != Running:
		return nil
	case told != nil && (gone || got.Process.Status == task.Status_UNKNOWN):
		return r.recordExit(ctx, c, *told)
	case gone:
		labels := exitLabels(now(), exitUnknown, ReasonUnknown, "the container's process was lost while nobody watched")
		return r.recordEnd(ctx, c, labels)
	}
	return nil // it runs
}

// recordExit reads the output to its end and then records.
func (r *Runtime) recordExit(ctx context.Context, c Container, e exit) error {
	if s := r.streams(c.ID); s != nil {
		s.expire(drainIdle)
	}
	labels := exitLabels(e.at, e.code, exitReason(e.code, r.oomKilled(c)), "")
	if c.Started.IsZero() {
		labels[labelStarted] = labels[labelFinished]
	}
	return r.recordEnd(ctx, c, labels)
}

// recordEnd records the end, ends the streams and tells.
func (r *Runtime) recordEnd(ctx context.Context, c Container, labels map[string]string) error {
	if err := r.setLabels(ctx, c.ID, labels); err != nil {
		return err
	}
	if err := r.dropStdio(c.ID); err != nil {
		// The container has ended all the same; its status must not hang on its log.
		r.log.Error("ending container streams", zap.String("container", c.ID), zap.Error(err))
	}
	r.queue.add(Event{Kind: EventExited, PodUID: c.PodUID, ContainerID: c.ID})
	return nil
}

func (r *Runtime) deleteTask(ctx context.Context, c Container) error {
	defer r.lock(kindSandbox, c.SandboxID)()
	_, err := r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: c.ID})
	if err = errdefs.FromGRPC(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("deleting task: %w", err)
	}
	return nil
}

// signalName is how the API spells a signal; a number for one without a name.
func signalName(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return strconv.Itoa(int(sig))
}

// exitReason: a container whose child was killed for its memory, and that ended on its own, was not killed itself.
func exitReason(code int, oom bool) string {
	switch {
	case code == 0:
		return ReasonCompleted
	case oom && code == exitKilled:
		return ReasonOOMKilled
	default:
		return ReasonError
	}
}
