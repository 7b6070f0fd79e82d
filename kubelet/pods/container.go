package pods

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/pkg/pod"
)

// containerSpec puts together what the runtime needs to know of a container. An error is one of the pod's own configuration.
func (w *worker) containerSpec(ctx context.Context, in input, c *corev1.Container, a Action) (containers.ContainerSpec, error) {
	services, err := w.parts.Services()
	if err != nil && !pod.Static(in.pod) { // which runs with what is known, also when the API is away
		return containers.ContainerSpec{}, err
	}
	facts := in.facts
	facts.Services, facts.Files = resolve.Services(in.pod, services), in.file
	env, err := resolve.Env(in.pod, c, facts, w.parts.Objects)
	if err != nil {
		return containers.ContainerSpec{}, err
	}
	spec := containers.ContainerSpec{
		SandboxID: in.sandbox.ID, Name: c.Name, Attempt: a.Attempt, Image: in.image.Name, Env: env,
		WorkingDir: resolve.Expand(c.WorkingDir, resolve.Values(env)), Stdin: c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY,
		CgroupParent: in.group, Resources: w.sizing().container(in.pod, c), OOMScoreAdj: new(oomScore(in.pod, c, w.memory())),
		Labels: map[string]string{labelBackoff: a.Backoff.String(), labelImage: c.Image, labelSize: w.cfg.Sizing.sizeOf(in.pod, c).String()},
	}
	if a.Round > 0 {
		spec.Labels[labelRound] = strconv.Itoa(a.Round)
	}
	spec.SingleOOMKill = w.cfg.SingleOOMKill
	spec.Command, spec.Args = resolve.Args(c, env)
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		spec.StopSignal = string(*c.Lifecycle.StopSignal)
	}
	if spec.Security, err = w.cfg.security(in.pod, c); err != nil {
		return containers.ContainerSpec{}, err
	}
	if spec.JoinPID, err = w.target(ctx, in.pod, c); err != nil {
		return containers.ContainerSpec{}, err
	}
	if spec.Devices, err = blockDevices(in, c); err != nil {
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

// target is the container whose processes an ephemeral one is to see: the ID of the one that runs under the name which it gives.
func (w *worker) target(ctx context.Context, p *corev1.Pod, c *corev1.Container) (string, error) {
	name := ""
	for i := range p.Spec.EphemeralContainers {
		if e := &p.Spec.EphemeralContainers[i]; e.Name == c.Name {
			name = e.TargetContainerName
		}
	}
	if name == "" {
		return "", nil
	}
	l, err := w.parts.Observer.ListPod(ctx, string(w.uid))
	if err != nil {
		return "", err
	}
	for _, r := range l.Containers {
		if r.Name == name && r.State == containers.Running {
			return r.ID, nil
		}
	}
	return "", fmt.Errorf("unable to find target container %s", name)
}

// blockDevices are the claims that the container uses as devices.
func blockDevices(in input, c *corev1.Container) ([]containers.Device, error) {
	var list []containers.Device
	for _, d := range c.VolumeDevices {
		vol, ok := in.volumes[d.Name]
		if !ok {
			return nil, fmt.Errorf("volume %q, a device at %s, is not in the pod", d.Name, d.DevicePath)
		}
		if vol.Device == "" {
			return nil, fmt.Errorf("volume %q has volumeMode Filesystem, but is specified in volumeDevices", d.Name)
		}
		rights := "mrw"
		if vol.ReadOnly {
			rights = "r"
		}
		list = append(list, containers.Device{Source: vol.Device, Target: d.DevicePath, Permissions: rights})
	}
	return list, nil
}
