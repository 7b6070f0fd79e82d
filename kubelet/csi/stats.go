package csi

import (
	"context"
	"errors"
	"strings"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/apimachinery/pkg/types"
)

// ErrNoStats says that a driver does not tell how full its volumes are.
var ErrNoStats = errors.New("driver tells nothing of its volumes")

// Usage is how full a volume is; what is nil the driver does not say.
type Usage struct {
	Used, Capacity, Available      *uint64 // bytes
	Inodes, InodesUsed, InodesFree *uint64
	// Abnormal says whether something is wrong with the volume, and what.
	Abnormal *bool
	Message  string
}

// Stats asks a driver how full a volume is that it has published to a pod.
func (d *Drivers) Stats(ctx context.Context, pod types.UID, name string) (Usage, error) {
	r, err := read(d.disk.useDir(user{pod, name}))
	if err != nil {
		return Usage{}, err
	}
	if r == nil || r.Stage != ready {
		return Usage{}, ErrNoStats
	}
	driver, err := d.driverOf(r.Driver)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	err = driver.call(ctx, func(ctx context.Context, c spec.NodeClient) error {
		able, err := can(ctx, c)
		if err != nil {
			return err
		}
		if !able[spec.NodeServiceCapability_RPC_GET_VOLUME_STATS] {
			return ErrNoStats
		}
		ask := &spec.NodeGetVolumeStatsRequest{VolumeId: r.Handle, VolumePath: d.disk.target(user{pod, name}, r.Block)}
		if r.Lifecycle != "Ephemeral" && able[spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME] {
			ask.StagingTargetPath = d.disk.stagePath(*r)
		}
		said, err := c.NodeGetVolumeStats(ctx, ask)
		if err != nil {
			return err
		}
		for _, one := range said.Usage {
			switch one.GetUnit() {
			case spec.VolumeUsage_BYTES:
				u.Capacity, u.Used, u.Available = count(one.Total), count(one.Used), count(one.Available)
			case spec.VolumeUsage_INODES:
				u.Inodes, u.InodesUsed, u.InodesFree = count(one.Total), count(one.Used), count(one.Available)
			}
		}
		if !able[spec.NodeServiceCapability_RPC_GET_VOLUME_HEALTH] {
			return nil
		}
		sick, err := c.NodeGetVolumeHealth(ctx, &spec.NodeGetVolumeHealthRequest{VolumeId: r.Handle, VolumePublishPath: ask.VolumePath, StagingTargetPath: ask.StagingTargetPath})
		if err != nil {
			return err
		}
		var messages []string
		for _, one := range sick.GetVolumeHealth().GetHealthStatuses() {
			messages = append(messages, one.Message)
		}
		u.Abnormal, u.Message = new(len(messages) > 0), strings.Join(messages, "; ")
		return nil
	})
	return u, err
}

// count is a number of a driver, nil if that makes no sense.
func count(n int64) *uint64 {
	if n < 0 {
		return nil
	}
	return new(uint64(n))
}
