package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// containerd is the node's own: nothing of it is shared with a containerd that this machine may run for itself.
func (c *cluster) containerd(n *node) daemon {
	path, err := exec.LookPath("containerd")
	if err != nil {
		path = "containerd" // checkPrograms has told
	}
	return daemon{
		name:  n.Name + "/containerd",
		path:  path,
		args:  []string{"--config=" + c.containerdConfig(n)},
		node:  n,
		ready: accepts(c.containerdSocket(n)),
	}
}

func (c *cluster) containerdSocket(n *node) string { return c.nodeRun(n, "containerd.sock") }
func (c *cluster) containerdConfig(n *node) string { return c.path("nodes", n.Name, "containerd.toml") }
func (c *cluster) containerdState(n *node) string  { return c.nodeRun(n, "containerd") }

// writeContainerdConfig writes what containerd is started with: no CRI (the kubelet drives it by its own API), no store drivers
// that would look for devices, nothing outside the cluster's folders.
func (c *cluster) writeContainerdConfig(n *node) error {
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.restart",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = %q

[ttrpc]
  address = %q

[debug]
  level = "warn"
`, c.path("nodes", n.Name, "containerd"), c.containerdState(n), c.containerdSocket(n), c.nodeRun(n, "containerd.ttrpc"))
	if err := os.MkdirAll(c.nodeRun(n), 0o711); err != nil {
		return fmt.Errorf("making the node's folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(c.containerdConfig(n)), 0o700); err != nil {
		return fmt.Errorf("making the node's folder: %w", err)
	}
	if err := replaceFile(c.containerdConfig(n), []byte(config)); err != nil {
		return fmt.Errorf("writing containerd's configuration: %w", err)
	}
	return shareFolder(c.path("nodes", n.Name, "kubelet"))
}

// shareFolder makes a folder a mount of which each namespace sees what the others mount: storage drivers run in containers and mount for the
// kubelet. On most machines the root is shared, but not on all.
func shareFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the kubelet's folder: %w", err)
	}
	have, err := mountPoints(func(string) bool { return true })
	if err != nil {
		return fmt.Errorf("listing mounts: %w", err)
	}
	if !slices.Contains(have, dir) {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting the kubelet's folder: %w", err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing the kubelet's folder: %w", err)
	}
	return nil
}
