package pods

import (
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/resolve"
)

// containerSpec puts together what the runtime needs to know of a container. An error is one of the pod's own configuration.
func (w *worker) containerSpec(in input, c *corev1.Container, a Action) (containers.ContainerSpec, error) {
	services, err := w.parts.Services()
	if err != nil {
		return containers.ContainerSpec{}, err
	}
	facts := in.facts
	facts.Services = resolve.Services(in.pod, services)
	env, err := resolve.Env(in.pod, c, facts, w.parts.Objects)
	if err != nil {
		return containers.ContainerSpec{}, err
	}
	spec := containers.ContainerSpec{
		SandboxID: in.sandbox.ID, Name: c.Name, Attempt: a.Attempt, Image: in.image.Name, Env: append([]string{"HOSTNAME=" + hostname(in.pod)}, env...),
		WorkingDir: resolve.Expand(c.WorkingDir, resolve.Values(env)), Stdin: c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY,
		CgroupParent: in.group, Resources: limits(c), OOMScoreAdj: new(oomScore(in.pod, c, w.memory())),
		Labels: map[string]string{labelBackoff: a.Backoff.String(), labelImage: c.Image},
	}
	spec.Command, spec.Args = resolve.Args(c, env)
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		spec.StopSignal = string(*c.Lifecycle.StopSignal)
	}
	if spec.Security, err = security(in.pod, c, filepath.Join(w.cfg.Root, "seccomp")); err != nil {
		return containers.ContainerSpec{}, err
	}
	if spec.Mounts, err = w.mounts(in, c, a, env); err != nil {
		return containers.ContainerSpec{}, err
	}
	spec.LogPath = logs.Path(w.cfg.Logs, in.pod.Namespace, in.pod.Name, string(w.uid), c.Name, a.Attempt)
	if err := os.MkdirAll(filepath.Dir(spec.LogPath), 0o755); err != nil {
		return containers.ContainerSpec{}, fmt.Errorf("making the folder of the container's logs: %w", err)
	}
	return spec, nil
}
