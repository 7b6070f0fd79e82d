package containers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/containers"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// CreateSandbox makes a pod's namespaces and records them. On error nothing remains, except what Connect did outside of the network namespace.
func (r *Runtime) CreateSandbox(ctx context.Context, spec SandboxSpec) (_ Sandbox, err error) {
	if err := r.checkHandler(spec.Handler); err != nil {
		return Sandbox{}, err
	}
	ctx = r.scope(ctx)
	s := Sandbox{
		ID:           newID(),
		PodUID:       spec.PodUID,
		PodNamespace: spec.PodNamespace,
		PodName:      spec.PodName,
		Attempt:      spec.Attempt,
		Hostname:     spec.Hostname,
		HostNetwork:  spec.HostNetwork,
		HostIPC:      spec.HostIPC,
		HostPID:      spec.HostPID,
		SharedPID:    spec.ShareProcessNamespace && !spec.HostPID,
		Handler:      spec.Handler,
		Labels:       spec.Labels,
		Ready:        true,
	}
	if s.SharedPID && spec.CgroupParent == "" {
		return Sandbox{}, fmt.Errorf("a sandbox with a process and no control group for it: %w", ErrUnsupported)
	}
	if spec.OwnUsers {
		if !r.FeaturesOf(spec.Handler).UserNamespaces {
			return Sandbox{}, fmt.Errorf("the handler %q does not support user namespaces: %w", spec.Handler, ErrUnsupported)
		}
		if s.HostNetwork || s.HostIPC || s.HostPID {
			return Sandbox{}, fmt.Errorf("users of its own in a sandbox with namespaces of the node: %w", ErrUnsupported)
		}
		if s.FirstID, err = r.takeIDs(); err != nil {
			return Sandbox{}, err
		}
	}
	dir := r.pinDir(s.ID)
	defer func() {
		if err != nil {
			defer r.freeIDs(s.FirstID)
			clean, cancel := r.undo(ctx)
			defer cancel()
			err = errors.Join(err, r.removePause(clean, s.PauseID), removePins(dir))
		}
	}()
	p := pins{dir: dir, net: !s.HostNetwork, ipc: !s.HostIPC, firstID: s.FirstID, hostname: s.Hostname, sysctls: spec.Sysctls}
	if err := makePins(p); err != nil {
		return Sandbox{}, fmt.Errorf("making sandbox namespaces: %w", err)
	}
	if s.SharedPID {
		if err := r.startPause(ctx, &s, spec); err != nil {
			return Sandbox{}, fmt.Errorf("running the sandbox's process: %w", err)
		}
	}
	if !s.HostNetwork {
		s.NetNS = filepath.Join(dir, pinNet)
		if s.IPs, err = connect(ctx, spec, s.NetNS); err != nil {
			return Sandbox{}, fmt.Errorf("connecting sandbox: %w", err)
		}
	}
	// A record needs some spec; this one is never run.
	blank, err := typeurl.MarshalAny(&specs.Spec{Version: specs.Version})
	if err != nil {
		return Sandbox{}, fmt.Errorf("encoding sandbox record: %w", err)
	}
	record, err := r.client.ContainerService().Create(ctx, containers.Container{
		ID:      s.ID,
		Labels:  sandboxLabels(s),
		Spec:    blank,
		Runtime: containers.RuntimeInfo{Name: runtimeName},
	})
	if err != nil {
		return Sandbox{}, fmt.Errorf("recording sandbox: %w", err)
	}
	s.Created = record.CreatedAt
	return s, nil
}

func connect(ctx context.Context, spec SandboxSpec, netns string) ([]netip.Addr, error) {
	if spec.Connect == nil {
		return nil, nil
	}
	return spec.Connect(ctx, netns)
}

// RemoveSandbox stops and removes the sandbox's containers, takes its namespaces down and forgets it. Removing what is gone is no error. The
// caller has torn the network down before.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	ctx = r.scope(ctx)
	records, err := r.client.ContainerService().List(ctx, filterLabel(kindContainer, labelSandbox, id))
	if err != nil {
		return fmt.Errorf("listing sandbox's containers: %w", err)
	}
	var ids []string
	for _, rec := range records {
		if err := r.RemoveContainer(ctx, rec.ID); err != nil {
			return err
		}
		ids = append(ids, rec.ID)
	}
	defer r.lock(kindSandbox, id)()
	pauses, err := r.removePauses(ctx, id)
	if err != nil {
		return err
	}
	if err := r.endShim(ctx, id, append(ids, pauses...)); err != nil {
		return err
	}
	s, err := r.sandbox(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := removePins(r.pinDir(id)); err != nil {
		return fmt.Errorf("removing sandbox namespaces: %w", err)
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("removing sandbox record: %w", err)
	}
	r.freeIDs(s.FirstID)
	return nil
}

// sandbox reads one sandbox's record.
func (r *Runtime) sandbox(ctx context.Context, id string) (Sandbox, error) {
	rec, err := r.client.ContainerService().Get(ctx, id)
	if errdefs.IsNotFound(err) || err == nil && rec.Labels[labelKind] != kindSandbox {
		return Sandbox{}, fmt.Errorf("sandbox %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Sandbox{}, fmt.Errorf("reading sandbox record: %w", err)
	}
	return r.sandboxOf(rec), nil
}

// sandboxOf completes a record with what the file system knows.
func (r *Runtime) sandboxOf(rec containers.Container) Sandbox {
	s := sandboxFrom(rec.ID, rec.Labels, rec.CreatedAt)
	s.Features = r.FeaturesOf(s.Handler)
	dir := r.pinDir(s.ID)
	s.Ready = s.HostIPC || isPinned(filepath.Join(dir, pinIPC))
	if !s.HostNetwork {
		s.NetNS = filepath.Join(dir, pinNet)
		s.Ready = s.Ready && isPinned(s.NetNS)
	}
	if s.SharedPID {
		s.Ready = s.Ready && pauseLives(filepath.Join(dir, pinPID), s.PausePID)
	}
	return s
}

func (r *Runtime) pinDir(id string) string { return filepath.Join(r.sandboxesDir(), id) }

// newID is 64 hex digits, as container ids look everywhere.
func newID() string {
	var raw [32]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	return hex.EncodeToString(raw[:])
}

func now() time.Time { return time.Now().UTC() }
