package nodetest

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/snapshots"
)

// Holdings counts what a node's pods hold, by kind: containers, tasks and snapshots of containerd, shims, network links,
// mounts, and folders of the control group below group (as CgroupRoot said it). Two counts with no pods between them are equal, or
// something leaked.
func (c *Containerd) Holdings(t testing.TB, group string) map[string]int {
	t.Helper()
	out, err := c.holdings(t, group)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *Containerd) holdings(t testing.TB, group string) (map[string]int, error) {
	out := map[string]int{}
	client, err := containerd.New(c.Address)
	if err != nil {
		return nil, fmt.Errorf("opening containerd: %w", err)
	}
	defer client.Close()
	ctx := namespaces.WithNamespace(t.Context(), "k8s.io")
	records, err := client.ContainerService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing containers: %w", err)
	}
	out["containers"] = len(records)
	running, err := client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, fmt.Errorf("listing tasks: %w", err)
	}
	out["tasks"] = len(running.Tasks)
	err = client.SnapshotService("overlayfs").Walk(ctx, func(_ context.Context, _ snapshots.Info) error {
		out["snapshots"]++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing snapshots: %w", err)
	}

	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, file := range commands {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), "containerd-shim") { // else it has ended meanwhile
			out["shims"]++
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	out["links"] = len(links)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	out["mounts"] = strings.Count(string(mounts), "\n")
	hierarchies, err := filepath.Glob(mountPoint + "/*" + group)
	if err != nil {
		return nil, err
	}
	for _, dir := range append(hierarchies, mountPoint+group) {
		err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				out["control groups"]++
			}
			return nil // one that went away meanwhile is none
		})
		if err != nil {
			return nil, fmt.Errorf("listing control groups: %w", err)
		}
	}
	return out, nil
}
