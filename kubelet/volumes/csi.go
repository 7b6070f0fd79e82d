package volumes

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/csi"
)

// Drivers provide volumes by the Container Storage Interface.
type Drivers interface {
	// Publish makes a volume ready for its pod and says where it is, a folder or a device; own gives a folder to the pod's group.
	Publish(ctx context.Context, v csi.Volume, own func(dir string) error) (path string, err error)
	// Unpublish takes all of them from a pod whose containers are gone.
	Unpublish(ctx context.Context, pod types.UID) error
	// Holds says whether something of a volume may have been done for a pod, by its name: that of the PersistentVolume.
	Holds(pod types.UID, name string) (bool, error)
	// Stats says how full one is.
	Stats(ctx context.Context, pod types.UID, name string) (csi.Usage, error)
}

func isInline(s *corev1.VolumeSource) bool { return s.CSI != nil }

// setupInline makes a volume that a driver makes for this pod alone.
func setupInline(ctx context.Context, g Ground) (Volume, error) {
	if g.Drivers == nil {
		return Volume{}, fmt.Errorf("CSI: %w", ErrUnsupported)
	}
	v := csi.Inline(g.Pod, g.Volume.Name, g.Volume.CSI)
	path, err := g.Drivers.Publish(ctx, v, g.own)
	return Volume{Path: path, ReadOnly: v.ReadOnly}, err
}

// driver has the driver of a PersistentVolume make it ready.
func (g Ground) driver(ctx context.Context, c *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) (Volume, error) {
	if g.Drivers == nil {
		return Volume{}, fmt.Errorf("CSI: %w", ErrUnsupported)
	}
	v := csi.OfClaim(g.Pod, g.Volume.Name, c, pv, g.readOnly())
	path, err := g.Drivers.Publish(ctx, v, g.own)
	if v.Block {
		return Volume{Device: path, ReadOnly: v.ReadOnly}, err
	}
	return Volume{Path: path, ReadOnly: v.ReadOnly}, err
}

// own gives a folder to the pod's group.
func (g Ground) own(dir string) error {
	gid := fsGroup(g.Pod)
	if gid == nil {
		return nil
	}
	if err := giveToGroup(dir, int(*gid), onMismatch(g.Pod)); err != nil {
		return fmt.Errorf("giving it to group %d: %w", *gid, err)
	}
	return nil
}

// leave takes from a pod what is not to be unmounted by us alone: the volumes of drivers, once nothing within them is mounted elsewhere any
// more, and loop devices.
func (m *Manager) leave(ctx context.Context, uid types.UID) error {
	if err := m.freeDevices(uid); err != nil {
		return err
	}
	if m.drivers == nil {
		return nil
	}
	if err := unmountBelow(filepath.Join(m.volumesDir(uid), subPaths)); err != nil {
		return fmt.Errorf("unmounting sub paths: %w", err)
	}
	return m.drivers.Unpublish(ctx, uid)
}

// setupFailed is the error of one volume, in the words that users of Kubernetes know. Some errors say all of that themselves.
func setupFailed(name string, err error) error {
	var failure *csi.Failure
	var unattached *csi.Unattached
	if errors.As(err, &failure) {
		return failure
	}
	if errors.As(err, &unattached) {
		return unattached
	}
	return fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", name, err)
}
