package volumes

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
)

func isEmptyDir(s *corev1.VolumeSource) bool { return s.EmptyDir != nil }

// setupEmptyDir makes an empty folder that lives as long as the pod, on the node's disk or, with medium Memory, in a tmpfs.
func setupEmptyDir(_ context.Context, g Ground) (Volume, error) {
	src := g.Volume.EmptyDir
	_, err := os.Lstat(g.Dir)
	fresh := os.IsNotExist(err)
	if err := os.MkdirAll(g.Dir, 0o750); err != nil {
		return Volume{}, fmt.Errorf("making an empty folder: %w", err)
	}
	switch src.Medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		var limit int64
		if src.SizeLimit != nil {
			limit = src.SizeLimit.Value()
		}
		if err := mountTmpfs(g.Dir, limit); err != nil {
			return Volume{}, err
		}
	default:
		return Volume{}, fmt.Errorf("medium %q: %w", src.Medium, ErrUnsupported)
	}
	if !fresh {
		return Volume{Path: g.Dir}, nil // a container may have changed the modes: they are its own now
	}
	if err := os.Chmod(g.Dir, 0o777); err != nil {
		return Volume{}, fmt.Errorf("opening an empty folder to all: %w", err)
	}
	if gid := fsGroup(g.Pod); gid != nil {
		if err := os.Chown(g.Dir, 0, int(*gid)); err != nil {
			return Volume{}, fmt.Errorf("giving an empty folder to group %d: %w", *gid, err)
		}
		if err := os.Chmod(g.Dir, 0o777|os.ModeSetgid); err != nil {
			return Volume{}, fmt.Errorf("giving an empty folder to group %d: %w", *gid, err)
		}
	}
	return Volume{Path: g.Dir}, nil
}

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}
