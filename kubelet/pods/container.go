package pods

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/pod"
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
			if sub = resolve.Expand(m.SubPathExpr, values); strings.Contains(sub, "$(") {
				return nil, fmt.Errorf("sub path %q refers to a variable that is not set", m.SubPathExpr)
			}
		}
		src, err := vol.Sub(sub, c.Name, i)
		if err != nil {
			return nil, fmt.Errorf("volume %q: %w", m.Name, err)
		}
		mount := containers.Mount{Source: src, Target: m.MountPath, ReadOnly: m.ReadOnly || vol.ReadOnly}
		if !strings.HasPrefix(m.MountPath, "/") {
			mount.Target = "/" + m.MountPath
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

func limits(c *corev1.Container) cgroups.Resources {
	return cgroups.Limits(c.Resources.Requests.Cpu().MilliValue(), c.Resources.Limits.Cpu().MilliValue(), c.Resources.Limits.Memory().Value())
}

// memory of the node in bytes, 0 if not known.
func (w *worker) memory() int64 {
	n := w.parts.Node()
	if n == nil {
		return 0
	}
	return n.Status.Capacity.Memory().Value()
}

// oomScore says whom the kernel kills first when memory runs out: pods without requests first, guaranteed ones last, and in between the less a
// container asked for the sooner.
func oomScore(p *corev1.Pod, c *corev1.Container, capacity int64) int {
	const first, last = 1000, -997
	if pod.Priority(p) >= pod.SystemCritical {
		return last
	}
	switch pod.QoS(p) {
	case corev1.PodQOSGuaranteed:
		return last
	case corev1.PodQOSBestEffort:
		return first
	}
	if capacity <= 0 {
		return first - 1
	}
	score := first - int(first*c.Resources.Requests.Memory().Value()/capacity)
	return min(max(score, first+last), first-1)
}

// security joins the pod's security context with the container's, which wins.
func security(p *corev1.Pod, c *corev1.Container, profiles string) (containers.Security, error) {
	var s containers.Security
	profile := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
	if sc := p.Spec.SecurityContext; sc != nil {
		s.RunAsUser, s.RunAsGroup = sc.RunAsUser, sc.RunAsGroup
		s.RunAsNonRoot = sc.RunAsNonRoot != nil && *sc.RunAsNonRoot
		s.SupplementalGroups = append(s.SupplementalGroups, sc.SupplementalGroups...)
		if sc.FSGroup != nil {
			s.SupplementalGroups = append(s.SupplementalGroups, *sc.FSGroup)
		}
		if sc.SeccompProfile != nil {
			profile = sc.SeccompProfile
		}
	}
	if sc := c.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			s.RunAsUser = sc.RunAsUser
		}
		if sc.RunAsGroup != nil {
			s.RunAsGroup = sc.RunAsGroup
		}
		if sc.RunAsNonRoot != nil {
			s.RunAsNonRoot = *sc.RunAsNonRoot
		}
		if sc.SeccompProfile != nil {
			profile = sc.SeccompProfile
		}
		s.Privileged = sc.Privileged != nil && *sc.Privileged
		s.NoNewPrivileges = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
		s.ReadOnlyRoot = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
		s.UnmaskedProc = sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount
		if caps := sc.Capabilities; caps != nil {
			for _, add := range caps.Add {
				s.CapAdd = append(s.CapAdd, string(add))
			}
			for _, drop := range caps.Drop {
				s.CapDrop = append(s.CapDrop, string(drop))
			}
		}
	}
	switch s.Seccomp = string(profile.Type); profile.Type {
	case corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined:
	case corev1.SeccompProfileTypeLocalhost:
		if profile.LocalhostProfile == nil || *profile.LocalhostProfile == "" {
			return s, errors.New("seccomp profile of type Localhost names no file")
		}
		s.SeccompPath = filepath.Join(profiles, filepath.Clean("/"+*profile.LocalhostProfile))
	default:
		return s, fmt.Errorf("seccomp profile of type %q is not known", profile.Type)
	}
	return s, nil
}
