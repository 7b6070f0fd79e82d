package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/containers"
	"github.com/containerd/containerd/contrib/seccomp"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A PID namespace lives as long as its first process. So containers that share one need a process that does nothing but wait and reap, the only
// one that a sandbox ever has. It is a container of containerd's like the others, in the sandbox's shim and the pod's control group, but of a
// kind of its own, which List does not tell; its image is a folder with one small program (pausecode.go). That it is run by the OCI runtime keeps the
// node's file system out of its /proc/1/root, which its neighbours may look through.

const (
	pauseName = "pause"
	// pauseUser has no rights and no files.
	pauseUser = 65535
	// pauseScore: without the process the pod is lost, so the kernel takes it last.
	pauseScore = -998
)

func (r *Runtime) pauseDir() string { return filepath.Join(r.cfg.StateDir, "pause") }

// startPause runs the process and pins its PID namespace in the sandbox's folder. It leaves nothing behind when it fails.
func (r *Runtime) startPause(ctx context.Context, s *Sandbox, spec SandboxSpec) (err error) {
	if err := r.furnishPause(); err != nil {
		return err
	}
	id := newID()
	ociSpec, err := typeurl.MarshalAny(r.pauseSpec(id, *s, spec.CgroupParent))
	if err != nil {
		return fmt.Errorf("encoding spec: %w", err)
	}
	runc, err := typeurl.MarshalAny(&options.Options{BinaryName: r.program(s.Handler), Root: r.runcDir()})
	if err != nil {
		return fmt.Errorf("encoding runtime options: %w", err)
	}
	labels := map[string]string{labelKind: kindPause, labelSandbox: s.ID, labelPodUID: s.PodUID}
	if _, err := r.client.ContainerService().Create(ctx, containers.Container{
		ID: id, Labels: labels, Spec: ociSpec, Runtime: containers.RuntimeInfo{Name: runtimeName, Options: runc},
	}); err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	defer func() {
		if err != nil {
			clean, cancel := r.undo(ctx)
			defer cancel()
			err = errors.Join(err, r.removePause(clean, id))
		}
	}()
	// An overlay of two read-only folders: a mount of its own, for the folder may lie where nothing can be executed.
	root := &types.Mount{Type: "overlay", Source: "overlay", Options: []string{
		fmt.Sprintf("lowerdir=%s:%s", filepath.Join(r.pauseDir(), "root"), filepath.Join(r.pauseDir(), "empty"))}}
	task, err := r.client.TaskService().Create(ctx, &tasks.CreateTaskRequest{ContainerID: id, Rootfs: []*types.Mount{root}})
	if err != nil {
		return fmt.Errorf("creating: %w", errdefs.FromGRPC(err))
	}
	if _, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id}); err != nil {
		return fmt.Errorf("starting: %w", errdefs.FromGRPC(err))
	}
	if err := bindFile(pidNamespace(int(task.Pid)), filepath.Join(r.pinDir(s.ID), pinPID)); err != nil {
		return fmt.Errorf("pinning its namespace: %w", err)
	}
	s.PauseID, s.PausePID = id, int(task.Pid)
	return nil
}

// furnishPause writes the program where it is not there yet.
func (r *Runtime) furnishPause() error {
	program, err := pauseProgram(runtime.GOARCH)
	if err != nil {
		return err
	}
	file := filepath.Join(r.pauseDir(), "root", pauseName)
	if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, program) {
		return nil
	}
	for _, dir := range []string{"root/proc", "root/dev", "empty"} {
		if err := os.MkdirAll(filepath.Join(r.pauseDir(), dir), 0o755); err != nil {
			return fmt.Errorf("making its folder: %w", err)
		}
	}
	half := file + "." + newID()[:8]
	if err := os.WriteFile(half, program, 0o600); err != nil {
		return fmt.Errorf("writing its program: %w", err)
	}
	if err := errors.Join(os.Chmod(half, 0o555), os.Rename(half, file)); err != nil {
		return fmt.Errorf("writing its program: %w", err)
	}
	return nil
}

func (r *Runtime) pauseSpec(id string, s Sandbox, group string) *specs.Spec {
	in := specInput{sandbox: s, pinDir: r.pinDir(s.ID)}
	in.sandbox.SharedPID = false // it is the one that makes the namespace
	shares := uint64(2)
	score := pauseScore
	spec := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: true},
		Process: &specs.Process{
			User: specs.User{UID: pauseUser, GID: pauseUser}, Args: []string{"/" + pauseName}, Cwd: "/", NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{}, OOMScoreAdj: oomScore(&score, r.may.oomFloor),
		},
		Annotations: map[string]string{shimGroup: s.ID},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}},
		},
		Linux: &specs.Linux{
			CgroupsPath:   filepath.Join("/", group, id),
			Namespaces:    namespacesOf(in),
			UIDMappings:   mappings(s),
			GIDMappings:   mappings(s),
			Resources:     &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}, Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			MaskedPaths:   maskedPaths,
			ReadonlyPaths: readonlyPaths,
		},
	}
	spec.Linux.Seccomp = seccomp.DefaultProfile(spec)
	return spec
}

// removePause ends the process and forgets it; removing what is gone is no error.
func (r *Runtime) removePause(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	if err := r.dropTask(ctx, id); err != nil {
		return fmt.Errorf("ending the sandbox's process: %w", err)
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("removing the record of the sandbox's process: %w", err)
	}
	return nil
}

// removePauses removes the processes of a sandbox: one, unless a kubelet was killed halfway. It returns what their ids were.
func (r *Runtime) removePauses(ctx context.Context, sandbox string) ([]string, error) {
	records, err := r.client.ContainerService().List(ctx, filterLabel(kindPause, labelSandbox, sandbox))
	if err != nil {
		return nil, fmt.Errorf("listing the sandbox's process: %w", err)
	}
	var ids []string
	for _, rec := range records {
		if err := r.removePause(ctx, rec.ID); err != nil {
			return nil, err
		}
		ids = append(ids, rec.ID)
	}
	return ids, nil
}

// sweepPauses removes the processes whose sandbox was never recorded.
func (r *Runtime) sweepPauses(ctx context.Context, records []containers.Container) error {
	known := make(map[string]bool)
	for _, rec := range records {
		known[rec.ID] = rec.Labels[labelKind] == kindSandbox
	}
	for _, rec := range records {
		if rec.Labels[labelKind] == kindPause && !known[rec.Labels[labelSandbox]] {
			if err := r.removePause(ctx, rec.ID); err != nil {
				return err
			}
			if err := r.endShim(ctx, rec.Labels[labelSandbox], []string{rec.ID}); err != nil {
				return err
			}
		}
	}
	return nil
}

// pauseLives: the pinned namespace is that of the process, which is so no other that has got its number since.
func pauseLives(pin string, pid int) bool {
	pinned, err := os.Stat(pin)
	if err != nil {
		return false
	}
	its, err := os.Stat(pidNamespace(pid))
	return err == nil && os.SameFile(pinned, its)
}

func pidNamespace(pid int) string { return fmt.Sprintf("/proc/%d/ns/pid", pid) }
