package containers

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/containers"
	"github.com/containerd/containerd/errdefs"

	"pilothouse.dev/kubelet/cgroups"
)

// List is everything of ours. It costs a round trip to containerd and one to each shim of a running container. A container whose process has
// ended stays Running here for the moment until its exit is recorded.
func (r *Runtime) List(ctx context.Context) (Listing, error) {
	ctx = r.scope(ctx)
	records, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q", labelKind))
	if err != nil {
		return Listing{}, fmt.Errorf("listing records: %w", err)
	}
	processes, err := r.tasks(ctx)
	if err != nil {
		return Listing{}, err
	}
	var l Listing
	for _, rec := range records {
		if rec.Labels[labelKind] == kindSandbox {
			l.Sandboxes = append(l.Sandboxes, r.sandboxOf(rec))
			continue
		}
		if rec.Labels[labelKind] != kindContainer {
			continue
		}
		c := containerOf(rec, processes[rec.ID])
		if c.Reason == ReasonUnknown && c.Finished.IsZero() {
			// No task: it ended after the record was read, or it is lost.
			if c, err = r.Inspect(ctx, rec.ID); errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return Listing{}, err
			}
		}
		l.Containers = append(l.Containers, c)
	}
	return l, nil
}

// ListPod is List for one pod.
func (r *Runtime) ListPod(ctx context.Context, podUID string) (Listing, error) {
	ctx = r.scope(ctx)
	records, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q==%q", labelPodUID, podUID))
	if err != nil {
		return Listing{}, fmt.Errorf("listing pod's records: %w", err)
	}
	var l Listing
	for _, rec := range records {
		if rec.Labels[labelKind] == kindSandbox {
			l.Sandboxes = append(l.Sandboxes, r.sandboxOf(rec))
			continue
		}
		if rec.Labels[labelKind] != kindContainer {
			continue
		}
		c, err := r.inspect(ctx, rec)
		if err != nil {
			return Listing{}, err
		}
		l.Containers = append(l.Containers, c)
	}
	return l, nil
}

// Inspect is one container, or ErrNotFound.
func (r *Runtime) Inspect(ctx context.Context, id string) (Container, error) {
	ctx = r.scope(ctx)
	rec, err := r.record(ctx, id)
	if err != nil {
		return Container{}, err
	}
	return r.inspect(ctx, rec)
}

// inspect asks for the task only where the record says that there should be one.
func (r *Runtime) inspect(ctx context.Context, rec containers.Container) (Container, error) {
	if containerFrom(rec.ID, rec.Labels, rec.CreatedAt).State != Running {
		return containerOf(rec, nil), nil
	}
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: rec.ID})
	if err = errdefs.FromGRPC(err); errdefs.IsNotFound(err) {
		// The task may have been deleted after the record was read: then the record says how it ended.
		fresh, err := r.record(ctx, rec.ID)
		if err != nil {
			return Container{}, err
		}
		return containerOf(fresh, nil), nil
	}
	if err != nil {
		return Container{}, fmt.Errorf("reading task: %w", err)
	}
	return containerOf(rec, got.Process), nil
}

// containerOf joins a record with its task; a container that should have one and hasn't is lost.
func containerOf(rec containers.Container, process *task.Process) Container {
	c := containerFrom(rec.ID, rec.Labels, rec.CreatedAt)
	switch {
	case c.State == Running && process == nil:
		c.State, c.Reason, c.ExitCode = Exited, ReasonUnknown, exitUnknown
	case c.State == Running:
		c.PID = int(process.Pid)
	}
	return c
}

// tasks are all processes by container. They must be listed after the records: what ended between is then still in the list of records.
func (r *Runtime) tasks(ctx context.Context) (map[string]*task.Process, error) {
	list, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, fmt.Errorf("listing tasks: %w", errdefs.FromGRPC(err))
	}
	byID := make(map[string]*task.Process, len(list.Tasks))
	for _, t := range list.Tasks {
		byID[or(t.ContainerID, t.ID)] = t
	}
	return byID, nil
}

// Finished is closed once the container has exited and its log is complete; at once if it does not run. For those who follow a log.
func (r *Runtime) Finished(ctx context.Context, id string) (<-chan struct{}, error) {
	if s := r.streams(id); s != nil {
		return s.done, nil
	}
	if _, err := r.record(r.scope(ctx), id); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	close(ended)
	return ended, nil
}

// Usage reads a running container's numbers.
func (r *Runtime) Usage(ctx context.Context, id string) (Usage, error) {
	rec, err := r.record(r.scope(ctx), id)
	if err != nil {
		return Usage{}, err
	}
	stats, err := r.groups.Stats(rec.Labels[labelCgroup])
	if errors.Is(err, cgroups.ErrNotFound) {
		return Usage{}, fmt.Errorf("container %s: %w", id, ErrNotRunning)
	}
	if err != nil {
		return Usage{}, fmt.Errorf("reading container's control group: %w", err)
	}
	return Usage{Stats: stats}, nil
}

// LayerUsage measures a container's writable layer, running or not. The snapshotter walks its files: call it seldom.
func (r *Runtime) LayerUsage(ctx context.Context, id string) (LayerUsage, error) {
	ctx = r.scope(ctx)
	if _, err := r.record(ctx, id); err != nil {
		return LayerUsage{}, err
	}
	u, err := r.client.SnapshotService(r.cfg.Snapshotter).Usage(ctx, id)
	if err != nil {
		return LayerUsage{}, fmt.Errorf("measuring container's file system: %w", err)
	}
	return LayerUsage{Bytes: u.Size, Inodes: u.Inodes}, nil
}

// UpdateResources changes the limits of a running container.
func (r *Runtime) UpdateResources(ctx context.Context, id string, res cgroups.Resources) error {
	rec, err := r.record(r.scope(ctx), id)
	if err != nil {
		return err
	}
	if err := r.groups.Update(rec.Labels[labelCgroup], res); err != nil {
		return fmt.Errorf("updating container's control group: %w", err)
	}
	return nil
}

// oomKilled asks the control group of a container that has just ended.
func (r *Runtime) oomKilled(c Container) bool {
	stats, err := r.groups.Stats(c.CgroupPath)
	return err == nil && stats.OOMKills > 0
}
