package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/containers"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/oci"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// keptSnapshot marks a snapshot so that containerd's garbage collection leaves it alone while no record refers to it yet; Open removes those
// that no record ever did.
func keptSnapshot() snapshots.Opt {
	return snapshots.WithLabels(map[string]string{"containerd.io/gc.root": now().Format(time.RFC3339), labelKind: kindContainer})
}

// CreateContainer prepares a container's file system and spec; nothing runs yet.
func (r *Runtime) CreateContainer(ctx context.Context, spec ContainerSpec) (_ string, err error) {
	ctx = r.scope(ctx)
	sandbox, err := r.sandbox(ctx, spec.SandboxID)
	if err != nil {
		return "", err
	}
	image, err := r.image(ctx, spec.Image)
	if err != nil {
		return "", err
	}
	who, err := whoRuns(image, spec.Security)
	if err != nil {
		return "", inPod(err, sandbox, spec.Name)
	}
	id := newID()
	if sandbox.FirstID != 0 {
		if err := who.mapped(); err != nil {
			return "", fmt.Errorf("making container %s: %w", spec.Name, err)
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, unmap(r.mapsOf(id)))
			}
		}()
		if spec.Mounts, err = r.mapVolumes(id, sandbox, spec.Mounts); err != nil {
			return "", fmt.Errorf("making mounts of container %s: %w", spec.Name, err)
		}
	}
	ociSpec, err := r.ociSpec(ctx, id, spec, sandbox, image, who)
	if err != nil {
		return "", fmt.Errorf("making spec of container %s: %w", spec.Name, err)
	}
	encoded, err := typeurl.MarshalAny(ociSpec)
	if err != nil {
		return "", fmt.Errorf("encoding spec: %w", err)
	}
	runtimeOptions := &options.Options{BinaryName: r.program(sandbox.Handler), Root: r.runcDir()}
	if sandbox.FirstID != 0 { // its output must be its own, to be opened again as /dev/stdout
		runtimeOptions.IoUid, runtimeOptions.IoGid = sandbox.FirstID+who.uid, sandbox.FirstID+who.gid
	}
	runc, err := typeurl.MarshalAny(runtimeOptions)
	if err != nil {
		return "", fmt.Errorf("encoding runtime options: %w", err)
	}
	snapshotter := r.client.SnapshotService(r.cfg.Snapshotter)
	if _, err := snapshotter.Prepare(ctx, id, image.parent, keptSnapshot()); err != nil {
		return "", fmt.Errorf("preparing file system: %w", err)
	}
	defer func() {
		if err != nil {
			clean, cancel := r.undo(ctx)
			defer cancel()
			err = errors.Join(err, snapshotter.Remove(clean, id))
		}
	}()
	c := Container{
		SandboxID:  sandbox.ID,
		PodUID:     sandbox.PodUID,
		Name:       spec.Name,
		Attempt:    spec.Attempt,
		Image:      spec.Image,
		ImageID:    image.id,
		ImageRef:   image.ref,
		LogPath:    spec.LogPath,
		CgroupPath: CgroupPath(spec, id),
		TTY:        spec.TTY,
		Stdin:      spec.Stdin,
		Labels:     spec.Labels,
	}
	labels := containerLabels(c, spec.StdinOnce, or(spec.StopSignal, image.config.StopSignal), who.text())
	if sandbox.FirstID != 0 {
		labels[labelIDs] = strconv.FormatUint(uint64(sandbox.FirstID), 10)
	}
	record := containers.Container{
		ID:          id,
		Labels:      labels,
		Image:       spec.Image,
		Runtime:     containers.RuntimeInfo{Name: runtimeName, Options: runc},
		Spec:        encoded,
		Snapshotter: r.cfg.Snapshotter,
		SnapshotKey: id,
	}
	if _, err := r.client.ContainerService().Create(ctx, record); err != nil {
		return "", fmt.Errorf("recording container: %w", err)
	}
	return id, nil
}

// ociSpec looks up what buildSpec needs of the machine, and calls it.
func (r *Runtime) ociSpec(ctx context.Context, id string, spec ContainerSpec, sandbox Sandbox, image imageFacts, who identityOf) (_ *specs.Spec, err error) {
	in := specInput{id: id, spec: spec, sandbox: sandbox, pinDir: r.pinDir(sandbox.ID), image: image, who: who, may: r.may, kernel: r.kernel}
	if in.pidPath, err = r.joinedPID(ctx, spec, sandbox); err != nil {
		return nil, err
	}
	for _, m := range spec.Mounts {
		if m.RecursiveReadOnly && !r.FeaturesOf(sandbox.Handler).RecursiveReadOnly {
			return nil, fmt.Errorf("mount %s is to be recursively read-only: %w", m.Target, ErrUnsupported)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.cfg.MountPoint, &st); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", r.cfg.MountPoint, err)
	}
	in.v2 = st.Type == unix.CGROUP2_SUPER_MAGIC
	if sandbox.HostNetwork {
		if in.sandbox.Hostname, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("asking hostname: %w", err)
		}
	}
	if spec.Security.Privileged {
		if in.hostDevices, err = oci.HostDevices(); err != nil {
			return nil, fmt.Errorf("listing devices: %w", err)
		}
	}
	for _, d := range spec.Devices {
		node, err := filepath.EvalSymlinks(d.Source) // a volume is named by a link that stays the same
		if err != nil {
			return nil, fmt.Errorf("looking at device %s: %w", d.Source, err)
		}
		dev, err := oci.DeviceFromPath(node)
		if err != nil {
			return nil, fmt.Errorf("looking at device %s: %w", d.Source, err)
		}
		dev.Path = or(d.Target, d.Source)
		in.devices = append(in.devices, *dev)
	}
	if spec.Security.Seccomp == SeccompLocalhost && !spec.Security.Privileged {
		if in.profile, err = readProfile(spec.Security.SeccompPath); err != nil {
			return nil, err
		}
	}
	return buildSpec(in)
}

// readProfile reads a seccomp profile. One that says nothing would let everything pass, so it is an error.
func readProfile(path string) (*specs.LinuxSeccomp, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot load seccomp profile %q: %w", path, err)
	}
	var profile specs.LinuxSeccomp
	if err := json.Unmarshal(raw, &profile); err != nil {
		return nil, fmt.Errorf("decoding seccomp profile %q: %w", path, err)
	}
	if profile.DefaultAction == "" {
		return nil, fmt.Errorf("seccomp profile %q names no defaultAction: %w", path, ErrUnsupported)
	}
	return &profile, nil
}

// joinedPID is the PID namespace that a container is to share, empty for one of its own or the node's.
func (r *Runtime) joinedPID(ctx context.Context, spec ContainerSpec, sandbox Sandbox) (string, error) {
	switch {
	case sandbox.HostPID:
		return "", nil
	case sandbox.SharedPID:
		return filepath.Join(r.pinDir(sandbox.ID), pinPID), nil
	case spec.JoinPID == "":
		return "", nil
	}
	target, err := r.Inspect(ctx, spec.JoinPID)
	if err != nil {
		return "", fmt.Errorf("finding the container whose processes are shared: %w", err)
	}
	if target.State != Running || target.SandboxID != sandbox.ID {
		return "", fmt.Errorf("container %s, whose processes are to be shared: %w", target.Name, ErrNotRunning)
	}
	return pidNamespace(target.PID), nil
}

// RemoveContainer kills the container if need be, and removes its file system and record. Its log stays. Removing what is gone is no error.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	if err := r.StopContainer(ctx, id, 0); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	ctx = r.scope(ctx)
	defer r.lock(kindContainer, id)()
	if err := r.dropTask(ctx, id); err != nil {
		return err
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("removing container record: %w", err)
	}
	if err := r.client.SnapshotService(r.cfg.Snapshotter).Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("removing file system: %w", err)
	}
	return errors.Join(r.dropStdio(id), unmap(r.mapsOf(id)))
}
