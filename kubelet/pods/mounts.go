package pods

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/kubelet/volumes"
)

// mounts are the container's volumes, and the files that the pod gives to each of its containers unless a volume is mounted there.
func (w *worker) mounts(in input, c *corev1.Container, a Action, env []string) ([]containers.Mount, error) {
	var mounts []containers.Mount
	values := resolve.Values(env)
	for i, m := range c.VolumeMounts {
		vol, ok := in.volumes[m.Name]
		if !ok {
			return nil, fmt.Errorf("volume %q, mounted at %s, is not in the pod", m.Name, m.MountPath)
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			var err error
			if sub, err = resolve.ExpandAll(m.SubPathExpr, values); err != nil {
				return nil, fmt.Errorf("failed to expand subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
			}
		}
		if vol.Device != "" {
			return nil, fmt.Errorf("volume %q has volumeMode Block, but is specified in volumeMounts", m.Name)
		}
		src, err := vol.Sub(sub, c.Name, i)
		if err != nil {
			return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
		}
		mount := containers.Mount{Source: src, Target: m.MountPath, ReadOnly: m.ReadOnly || vol.ReadOnly}
		if !strings.HasPrefix(m.MountPath, "/") {
			mount.Target = "/" + m.MountPath
		}
		if mount.RecursiveReadOnly, err = status.RecursiveReadOnly(m, in.sandbox.Features.RecursiveReadOnly); err != nil {
			return nil, err
		}
		if m.MountPropagation != nil {
			mount.Propagation = map[corev1.MountPropagationMode]string{
				corev1.MountPropagationHostToContainer: "rslave", corev1.MountPropagationBidirectional: "rshared"}[*m.MountPropagation]
		}
		mounts = append(mounts, mount)
	}
	own := filepath.Join(volumes.PodDir(w.cfg.Root, w.uid), "etc")
	for _, f := range []string{"hosts", "resolv.conf", "hostname"} {
		if target := "/etc/" + f; !mountsAt(c, target) {
			mounts = append(mounts, containers.Mount{Source: filepath.Join(own, f), Target: target})
		}
	}
	note := w.noteFile(c.Name, a.Attempt)
	if err := os.MkdirAll(filepath.Dir(note), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of termination messages: %w", err)
	}
	if err := os.WriteFile(note, nil, 0o666); err != nil {
		return nil, fmt.Errorf("making the file of the termination message: %w", err)
	}
	if err := os.Chmod(note, 0o666); err != nil {
		return nil, fmt.Errorf("opening the file of the termination message: %w", err)
	}
	target := c.TerminationMessagePath
	if target == "" {
		target = corev1.TerminationMessagePathDefault
	}
	return append(mounts, containers.Mount{Source: note, Target: target}), nil
}

// file reads a file in one of the pod's volumes, for variables that are in files.
func (in input) file(volume, path string) ([]byte, error) {
	vol, ok := in.volumes[volume]
	if !ok {
		return nil, fmt.Errorf("volume %q is not in the pod", volume)
	}
	return vol.ReadFile(path, resolve.MostOfEnvFile)
}
