package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/cio"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/oci"
)

// rawInFlight bounds the starts at the same time: more only lengthens the queue (LIMITS.md).
const rawInFlight = 4

// rawRuntime makes containers with containerd's client and nothing else: snapshot, record, task, start.
type rawRuntime struct {
	client *containerd.Client
	image  containerd.Image
	cgroup string
}

func openRuntime(ctx context.Context, socket, archive, cluster string) (*rawRuntime, error) {
	client, err := containerd.New(socket, containerd.WithDefaultNamespace("bench"))
	if err != nil {
		return nil, fmt.Errorf("opening containerd: %w", err)
	}
	r := &rawRuntime{client: client, cgroup: "/pilothouse-" + cluster + "/raw"}
	f, err := os.Open(archive)
	if err != nil {
		return nil, fmt.Errorf("opening the image: %w", err)
	}
	defer f.Close()
	ctx = namespaces.WithNamespace(ctx, "bench")
	images, err := client.Import(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("importing the image: %w", err)
	}
	r.image = containerd.NewImage(client, images[0])
	if err := r.image.Unpack(ctx, ""); err != nil {
		return nil, fmt.Errorf("unpacking the image: %w", err)
	}
	return r, nil
}

func (r *rawRuntime) close() { r.client.Close() }

func (r *rawRuntime) oneByOne(ctx context.Context, n int) (samples, error) {
	var out samples
	for i := range n {
		began := time.Now()
		remove, err := r.start(ctx, fmt.Sprintf("alone-%d", i))
		if err != nil {
			return nil, err
		}
		out = append(out, time.Since(began))
		if err := remove(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *rawRuntime) together(ctx context.Context, n int) (samples, error) {
	out := make(samples, n)
	errs := make([]error, n)
	removes := make([]func() error, n)
	slots := make(chan struct{}, rawInFlight)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range n {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			removes[i], errs[i] = r.start(ctx, fmt.Sprintf("together-%d", i))
			out[i] = time.Since(began)
		})
	}
	wg.Wait()
	for i := range n {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if err := removes[i](); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// rawContainer is a container that runs.
type rawContainer struct {
	container containerd.Container
	task      containerd.Task
	ended     <-chan containerd.ExitStatus
}

func (r *rawRuntime) start(ctx context.Context, id string) (remove func() error, err error) {
	ctx = namespaces.WithNamespace(ctx, "bench")
	c, err := r.client.NewContainer(ctx, id,
		containerd.WithNewSnapshot(id, r.image),
		containerd.WithNewSpec(oci.WithImageConfigArgs(r.image, []string{"pause"}), oci.WithCgroup(r.cgroup+"/"+id)))
	if err != nil {
		return nil, fmt.Errorf("making a container: %w", err)
	}
	raw := &rawContainer{container: c}
	if err := raw.run(ctx); err != nil {
		return nil, err
	}
	return func() error { return raw.remove(ctx, syscall.SIGKILL) }, nil
}

func (c *rawContainer) run(ctx context.Context) (err error) {
	if c.task, err = c.container.NewTask(ctx, cio.NullIO); err != nil {
		return fmt.Errorf("making a task: %w", err)
	}
	if c.ended, err = c.task.Wait(ctx); err != nil {
		return fmt.Errorf("waiting for a task: %w", err)
	}
	if err := c.task.Start(ctx); err != nil {
		return fmt.Errorf("starting a task: %w", err)
	}
	return nil
}

// end signals the process and forgets its task once it has ended.
func (c *rawContainer) end(ctx context.Context, signal syscall.Signal) error {
	if err := c.task.Kill(ctx, signal); err != nil {
		return fmt.Errorf("killing a task: %w", err)
	}
	<-c.ended
	if _, err := c.task.Delete(ctx); err != nil {
		return fmt.Errorf("deleting a task: %w", err)
	}
	return nil
}

func (c *rawContainer) remove(ctx context.Context, signal syscall.Signal) error {
	if err := c.end(ctx, signal); err != nil {
		return err
	}
	if err := c.container.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		return fmt.Errorf("deleting a container: %w", err)
	}
	return nil
}

// lives times, n times over, a container's second start after its end, and its removal by TERM.
func (r *rawRuntime) lives(ctx context.Context, n int) (again, gone samples, err error) {
	ctx = namespaces.WithNamespace(ctx, "bench")
	for i := range n {
		id := fmt.Sprintf("lives-%d", i)
		c, err := r.client.NewContainer(ctx, id, containerd.WithNewSnapshot(id, r.image),
			containerd.WithNewSpec(oci.WithImageConfigArgs(r.image, []string{"pause"}), oci.WithCgroup(r.cgroup+"/"+id)))
		if err != nil {
			return nil, nil, fmt.Errorf("making a container: %w", err)
		}
		raw := &rawContainer{container: c}
		if err := raw.run(ctx); err != nil {
			return nil, nil, err
		}
		began := time.Now()
		if err := raw.end(ctx, syscall.SIGKILL); err != nil {
			return nil, nil, err
		}
		if err := raw.run(ctx); err != nil {
			return nil, nil, err
		}
		again = append(again, time.Since(began))
		began = time.Now()
		if err := raw.remove(ctx, syscall.SIGTERM); err != nil {
			return nil, nil, err
		}
		gone = append(gone, time.Since(began))
	}
	return again, gone, nil
}
