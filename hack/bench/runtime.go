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

func (r *rawRuntime) start(ctx context.Context, id string) (remove func() error, err error) {
	ctx = namespaces.WithNamespace(ctx, "bench")
	c, err := r.client.NewContainer(ctx, id,
		containerd.WithNewSnapshot(id, r.image),
		containerd.WithNewSpec(oci.WithImageConfigArgs(r.image, []string{"pause"}), oci.WithCgroup(r.cgroup+"/"+id)))
	if err != nil {
		return nil, fmt.Errorf("making a container: %w", err)
	}
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return nil, fmt.Errorf("making a task: %w", err)
	}
	ended, err := task.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("waiting for a task: %w", err)
	}
	if err := task.Start(ctx); err != nil {
		return nil, fmt.Errorf("starting a task: %w", err)
	}
	return func() error {
		if err := task.Kill(ctx, syscall.SIGKILL); err != nil {
			return fmt.Errorf("killing a task: %w", err)
		}
		<-ended
		if _, err := task.Delete(ctx); err != nil {
			return fmt.Errorf("deleting a task: %w", err)
		}
		if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
			return fmt.Errorf("deleting a container: %w", err)
		}
		return nil
	}, nil
}
