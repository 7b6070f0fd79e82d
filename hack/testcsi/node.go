package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// checked refuses what the specification refuses.
func checked(fields ...string) error {
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" {
			return status.Errorf(codes.InvalidArgument, "%s is missing", fields[i])
		}
	}
	return nil
}

func (d *driver) content(handle string) string {
	return filepath.Join(d.data, "volumes", filepath.Base(handle))
}

// inline says whether a volume is one that a pod has of its own, by the name that kubelets give to it.
func inline(handle string) bool {
	return strings.HasPrefix(handle, "csi-") && filepath.Base(handle) == handle
}

func (d *driver) NodeStageVolume(_ context.Context, r *spec.NodeStageVolumeRequest) (*spec.NodeStageVolumeResponse, error) {
	if err := checked("volume_id", r.VolumeId, "staging_target_path", r.StagingTargetPath, "volume_capability", r.VolumeCapability.String()); err != nil {
		return nil, err
	}
	d.work.Lock()
	defer d.work.Unlock()
	if r.VolumeCapability.GetBlock() != nil {
		_, err := d.loop(r.VolumeId)
		return &spec.NodeStageVolumeResponse{}, err
	}
	return &spec.NodeStageVolumeResponse{}, bind(d.content(r.VolumeId), r.StagingTargetPath)
}

func (d *driver) NodeUnstageVolume(_ context.Context, r *spec.NodeUnstageVolumeRequest) (*spec.NodeUnstageVolumeResponse, error) {
	if err := checked("volume_id", r.VolumeId, "staging_target_path", r.StagingTargetPath); err != nil {
		return nil, err
	}
	d.work.Lock()
	defer d.work.Unlock()
	if err := d.unloop(r.VolumeId); err != nil {
		return nil, err
	}
	return &spec.NodeUnstageVolumeResponse{}, unmount(r.StagingTargetPath)
}

func (d *driver) NodePublishVolume(_ context.Context, r *spec.NodePublishVolumeRequest) (*spec.NodePublishVolumeResponse, error) {
	if err := checked("volume_id", r.VolumeId, "target_path", r.TargetPath, "volume_capability", r.VolumeCapability.String()); err != nil {
		return nil, err
	}
	d.work.Lock()
	defer d.work.Unlock()
	if r.VolumeCapability.GetBlock() != nil {
		return &spec.NodePublishVolumeResponse{}, d.publishDevice(r)
	}
	from := r.StagingTargetPath
	switch {
	case inline(r.VolumeId):
		from = filepath.Join(d.data, "inline", r.VolumeId)
	case from == "":
		from = d.content(r.VolumeId)
	case d.has("STAGE_UNSTAGE_VOLUME"):
		if there, err := mounted(from); err != nil || !there {
			return nil, errors.Join(err, status.Error(codes.FailedPrecondition, "the volume is not staged"))
		}
	}
	if err := os.MkdirAll(from, 0o755); err != nil {
		return nil, err
	}
	if err := d.tell(r, from); err != nil {
		return nil, err
	}
	if err := bind(from, r.TargetPath); err != nil {
		return nil, err
	}
	if r.Readonly {
		return &spec.NodePublishVolumeResponse{}, unix.Mount("", r.TargetPath, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return &spec.NodePublishVolumeResponse{}, nil
}

// tell puts what the driver was told into the volume.
func (d *driver) tell(r *spec.NodePublishVolumeRequest, dir string) error {
	text, err := json.MarshalIndent(map[string]any{
		"driver": d.name, "node": d.node, "volume": r.VolumeId, "readOnly": r.Readonly, "access": r.VolumeCapability.GetAccessMode().GetMode().String(),
		"fsType": r.VolumeCapability.GetMount().GetFsType(), "mountFlags": r.VolumeCapability.GetMount().GetMountFlags(), "group": r.VolumeCapability.GetMount().GetVolumeMountGroup(),
		"context": r.VolumeContext, "attachment": r.PublishContext, "secrets": slices.Sorted(maps.Keys(r.Secrets)),
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "testcsi.json"), append(text, '\n'), 0o644)
}

func (d *driver) NodeUnpublishVolume(_ context.Context, r *spec.NodeUnpublishVolumeRequest) (*spec.NodeUnpublishVolumeResponse, error) {
	if err := checked("volume_id", r.VolumeId, "target_path", r.TargetPath); err != nil {
		return nil, err
	}
	d.work.Lock()
	defer d.work.Unlock()
	if err := unmount(r.TargetPath); err != nil {
		return nil, err
	}
	if err := os.Remove(r.TargetPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !inline(r.VolumeId) {
		return &spec.NodeUnpublishVolumeResponse{}, nil
	}
	return &spec.NodeUnpublishVolumeResponse{}, os.RemoveAll(filepath.Join(d.data, "inline", r.VolumeId))
}

func (d *driver) NodeGetVolumeStats(_ context.Context, r *spec.NodeGetVolumeStatsRequest) (*spec.NodeGetVolumeStatsResponse, error) {
	if err := checked("volume_id", r.VolumeId, "volume_path", r.VolumePath); err != nil {
		return nil, err
	}
	if there, err := mounted(r.VolumePath); err != nil || !there {
		return nil, errors.Join(err, status.Error(codes.NotFound, "the volume is not there"))
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.VolumePath, &st); err != nil {
		return nil, err
	}
	return &spec.NodeGetVolumeStatsResponse{Usage: []*spec.VolumeUsage{
		{Unit: spec.VolumeUsage_BYTES, Total: 1 << 30, Used: 1 << 20, Available: 1<<30 - 1<<20},
		{Unit: spec.VolumeUsage_INODES, Total: int64(st.Files), Used: int64(st.Files - st.Ffree), Available: int64(st.Ffree)},
	}}, nil
}

func (d *driver) NodeGetVolumeHealth(_ context.Context, r *spec.NodeGetVolumeHealthRequest) (*spec.NodeGetVolumeHealthResponse, error) {
	said := &spec.VolumeHealth{VolumeId: r.VolumeId}
	text, err := os.ReadFile(filepath.Join(d.data, "sick"))
	if err == nil {
		said.HealthStatuses = []*spec.VolumeHealth_VolumeHealthEntry{{Message: strings.TrimSpace(string(text))}}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &spec.NodeGetVolumeHealthResponse{VolumeHealth: said}, nil
}

func (d *driver) NodeExpandVolume(_ context.Context, r *spec.NodeExpandVolumeRequest) (*spec.NodeExpandVolumeResponse, error) {
	if err := checked("volume_id", r.VolumeId, "volume_path", r.VolumePath); err != nil {
		return nil, err
	}
	if there, err := mounted(r.VolumePath); err != nil || !there {
		return nil, errors.Join(err, status.Error(codes.NotFound, "the volume is not there"))
	}
	size := r.GetCapacityRange().GetRequiredBytes()
	return &spec.NodeExpandVolumeResponse{CapacityBytes: size},
		os.WriteFile(filepath.Join(d.data, "size", filepath.Base(r.VolumeId)), []byte(fmt.Sprint(size)), 0o644)
}
