package containers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/containers"
	"github.com/containerd/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	exitStartError = 128
	drainIdle      = 2 * time.Second
)

// StartContainer runs a created container. It waits for its turn (Config.StartsInFlight). If the process cannot be started the container
// becomes Exited with reason StartError, code 128, and the error is returned.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	ctx = r.scope(ctx)
	select {
	case r.starts <- struct{}{}:
		defer func() { <-r.starts }()
	case <-ctx.Done():
		return fmt.Errorf("waiting to start container: %w", ctx.Err())
	}
	defer r.lock(kindContainer, id)()
	rec, err := r.record(ctx, id)
	if err != nil {
		return err
	}
	c := containerFrom(id, rec.Labels, rec.CreatedAt)
	if c.State != Created {
		return fmt.Errorf("starting container %s: it is %s: %w", id, c.State, ErrUnsupported)
	}
	if err := r.run(ctx, c); err != nil {
		clean, cancel := r.undo(ctx)
		defer cancel()
		return errors.Join(fmt.Errorf("starting container %s: %w", c.Name, err), r.startFailed(clean, id, err))
	}
	r.queue.add(Event{Kind: EventStarted, PodUID: c.PodUID, ContainerID: id})
	return nil
}

// run makes the task and starts it, with its streams read.
func (r *Runtime) run(ctx context.Context, c Container) error {
	sink, err := r.openSink(c.LogPath)
	if err != nil {
		return err
	}
	streams, err := makeStdio(r.stdioDir(c.ID), c.TTY, c.Stdin, r.log)
	if err != nil {
		return errors.Join(err, sink.Close())
	}
	streams.sink = sink
	r.setStreams(c.ID, streams)
	if err := r.createTask(ctx, c, streams); err != nil {
		return err
	}
	streams.start(sink)
	if _, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: c.ID}); err != nil {
		return errdefs.FromGRPC(err)
	}
	return r.setLabels(ctx, c.ID, map[string]string{labelStarted: now().Format(time.RFC3339Nano)})
}

// createTask holds the sandbox's lock: two creations at once could each start a shim, and a shim that has just lost its last container ends.
func (r *Runtime) createTask(ctx context.Context, c Container, streams *stdio) (err error) {
	mounts, err := r.client.SnapshotService(r.cfg.Snapshotter).Mounts(ctx, c.ID)
	if err != nil {
		return fmt.Errorf("finding file system: %w", err)
	}
	in, out, stderr := streams.paths()
	req := &tasks.CreateTaskRequest{ContainerID: c.ID, Terminal: c.TTY, Stdin: in, Stdout: out, Stderr: stderr}
	for _, m := range mounts {
		req.Rootfs = append(req.Rootfs, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	if c.firstID != 0 {
		defer func() { err = errors.Join(err, unmap(r.mapsOf(c.ID))) }()
		if err := r.mapLayers(c, req.Rootfs); err != nil {
			return err
		}
	}
	defer r.lock(kindSandbox, c.SandboxID)()
	if _, err := r.client.TaskService().Create(ctx, req); err != nil {
		return errdefs.FromGRPC(err)
	}
	return nil
}

// startFailed takes back what a start did and records why.
func (r *Runtime) startFailed(ctx context.Context, id string, why error) error {
	if err := r.dropTask(ctx, id); err != nil {
		return err
	}
	if err := r.dropStdio(id); err != nil {
		return err
	}
	at := now()
	labels := exitLabels(at, exitStartError, ReasonStartError, why.Error())
	labels[labelStarted] = at.Format(time.RFC3339Nano)
	return r.setLabels(ctx, id, labels)
}

// dropTask kills and deletes a container's task, if it has one. The caller holds the container's lock.
func (r *Runtime) dropTask(ctx context.Context, id string) error {
	service := r.client.TaskService()
	got, err := service.Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err = errdefs.FromGRPC(err); errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading task: %w", err)
	}
	if got.Process.Status == task.Status_UNKNOWN {
		if err := r.awaitNoTask(ctx, id); !errors.Is(err, errNoTask) {
			return fmt.Errorf("waiting for dead task: %w", err)
		}
		return nil
	}
	if got.Process.Status != stoppedStatus {
		_, err := service.Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(unix.SIGKILL), All: true})
		if err = errdefs.FromGRPC(err); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("killing task: %w", err)
		}
		if _, err := service.Wait(ctx, &tasks.WaitRequest{ContainerID: id}); err != nil && !errdefs.IsNotFound(errdefs.FromGRPC(err)) {
			return fmt.Errorf("waiting for task: %w", errdefs.FromGRPC(err))
		}
	}
	if _, err := service.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id}); err != nil && !errdefs.IsNotFound(errdefs.FromGRPC(err)) {
		return fmt.Errorf("deleting task: %w", errdefs.FromGRPC(err))
	}
	return nil
}

// record reads a container's record.
func (r *Runtime) record(ctx context.Context, id string) (containers.Container, error) {
	rec, err := r.client.ContainerService().Get(ctx, id)
	if errdefs.IsNotFound(err) || err == nil && rec.Labels[labelKind] != kindContainer {
		return containers.Container{}, fmt.Errorf("container %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return containers.Container{}, fmt.Errorf("reading container record: %w", err)
	}
	return rec, nil
}

// setLabels adds labels to a record.
func (r *Runtime) setLabels(ctx context.Context, id string, labels map[string]string) error {
	var paths []string
	for k := range labels {
		paths = append(paths, "labels."+k)
	}
	if _, err := r.client.ContainerService().Update(ctx, containers.Container{ID: id, Labels: labels}, paths...); err != nil {
		return fmt.Errorf("recording container status: %w", err)
	}
	return nil
}
