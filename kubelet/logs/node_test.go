package logs_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/logs"
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(m)) }

// TestFollowAContainer joins log and runtime as main does: a kubelet restarts under a container that prints numbered lines, the log is rotated
// many times, and whoever follows afterwards sees every line once, and the end.
func TestFollowAContainer(t *testing.T) {
	ctx := context.Background()
	daemon := nodetest.StartContainerd(t)
	open := func() *containers.Runtime {
		t.Helper()
		rt := containers.New(containers.Config{Address: daemon.Address, StateDir: daemon.Dir}, func(path string) (containers.Sink, error) {
			return logs.OpenWriter(path, logs.Limits{MaxSize: 100_000, MaxFiles: 100})
		}, zaptest.NewLogger(t))
		if err := rt.Open(ctx); err != nil {
			t.Fatal(err)
		}
		return rt
	}
	rt := open()
	store := images.New(images.Config{}, rt, zaptest.NewLogger(t))
	if _, err := store.Import(ctx, nodetest.Archive(t, nodetest.Image)); err != nil {
		t.Fatal(err)
	}
	img, err := store.Ensure(ctx, images.PullSpec{Image: nodetest.Image})
	if err != nil {
		t.Fatal(err)
	}
	s, err := rt.CreateSandbox(ctx, containers.SandboxSpec{PodUID: "uid"})
	if err != nil {
		t.Fatal(err)
	}
	const last = 20_000
	path := logs.Path(t.TempDir(), "default", "web", "uid", "c", 0)
	// Half of each line at a time: a restart then often cuts a line in two.
	script := fmt.Sprintf("i=1; while [ $i -le %d ]; do echo -n $i; echo $i; i=$((i+1)); done", last)
	id, err := rt.CreateContainer(ctx, containers.ContainerSpec{
		SandboxID: s.ID, Name: "c", Image: img.ID, Args: []string{"sh", "-c", script}, LogPath: path, CgroupParent: nodetest.CgroupRoot(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.StartContainer(ctx, id); err != nil {
		t.Fatal(err)
	}
	if c, err := rt.Inspect(ctx, id); err != nil || !strings.HasPrefix(c.ImageRef, "example.test/busybox@sha256:") {
		t.Errorf("image reference %q, %v", c.ImageRef, err)
	}
	for range 4 {
		if err := rt.Close(); err != nil {
			t.Fatal(err)
		}
		rt = open()
	}
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- rt.Run(working) }()
	ended, err := rt.Finished(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := logs.Read(ctx, path, logs.Options{Follow: true, Ended: ended}, &got); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := 1; i <= last; i++ {
		fmt.Fprintf(&want, "%d%d\n", i, i)
	}
	if got.String() != want.String() {
		t.Errorf("followed %d bytes, want %d", got.Len(), want.Len())
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := rt.RemoveSandbox(ctx, s.ID); err != nil {
		t.Error(err)
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
}
