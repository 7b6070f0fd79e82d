package images

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/snapshots"
	"github.com/moby/sys/mountinfo"
	"k8s.io/apimachinery/pkg/types"
)

// An image volume is a read-only view of the image's layers; its labels say whose it is and of which image.
const (
	labelVolumePod   = "pilothouse.dev/volume-pod"
	labelVolumeImage = "pilothouse.dev/volume-image"
	labelVolumeRef   = "pilothouse.dev/volume-ref" // name@digest
)

// Mount makes the files of an image seen at dir, which it makes if need be. What is mounted there already stays, whatever has become of the image's
// name since: of that only Ref is said. spec.Pod is needed; volume tells the pod's volumes apart. An error is that of Ensure, or one of mounting.
func (s *Store) Mount(ctx context.Context, spec PullSpec, volume, dir string) (Image, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Image{}, fmt.Errorf("making a mount point: %w", err)
	}
	there, err := mountinfo.Mounted(dir)
	if err != nil {
		return Image{}, fmt.Errorf("looking for a mount: %w", err)
	}
	if there {
		st, err := s.daemon.Client().SnapshotService(s.cfg.Snapshotter).Stat(ctx, viewKey(spec.Pod.UID, volume))
		if err != nil {
			return Image{}, fmt.Errorf("looking at the view of image %q: %w", spec.Image, err)
		}
		return Image{Ref: st.Labels[labelVolumeRef]}, nil
	}
	img, err := s.Ensure(ctx, spec)
	if err != nil {
		return Image{}, err
	}
	mounts, err := s.view(ctx, spec.Pod.UID, volume, img)
	if err != nil {
		return Image{}, fmt.Errorf("viewing image %q: %w", spec.Image, err)
	}
	for i := range mounts {
		if !slices.Contains(mounts[i].Options, "ro") {
			mounts[i].Options = append(slices.Clone(mounts[i].Options), "ro")
		}
	}
	if err := mount.All(mounts, dir); err != nil {
		return Image{}, fmt.Errorf("mounting image %q: %w", spec.Image, err)
	}
	return img, nil
}

// view is a snapshot of the image's layers for one volume. One that was left by a kubelet that ended is used if it is of the same image.
func (s *Store) view(ctx context.Context, uid types.UID, volume string, img Image) ([]mount.Mount, error) {
	snapshotter := s.daemon.Client().SnapshotService(s.cfg.Snapshotter)
	key := viewKey(uid, volume)
	labels := snapshots.WithLabels(map[string]string{
		"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339), labelVolumePod: string(uid), labelVolumeImage: img.ID, labelVolumeRef: img.Ref,
	})
	mounts, err := snapshotter.View(ctx, key, img.chain, labels)
	if !errdefs.IsAlreadyExists(err) {
		return mounts, err
	}
	st, err := snapshotter.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if st.Parent == img.chain {
		return snapshotter.Mounts(ctx, key)
	}
	if err := snapshotter.Remove(ctx, key); err != nil {
		return nil, err
	}
	return snapshotter.View(ctx, key, img.chain, labels)
}

func viewKey(uid types.UID, volume string) string {
	return fmt.Sprintf("volume-%x", sha256.Sum256(fmt.Appendf(nil, "%s %s", uid, volume)))[:40]
}

// Release gives back what Mount took for a pod whose volumes are unmounted. Releasing what is gone is no error.
func (s *Store) Release(ctx context.Context, uid types.UID) error {
	snapshotter := s.daemon.Client().SnapshotService(s.cfg.Snapshotter)
	var keys []string
	err := snapshotter.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		keys = append(keys, info.Name)
		return nil
	}, fmt.Sprintf("labels.%q==%s", labelVolumePod, uid))
	if err != nil {
		return fmt.Errorf("listing image volumes: %w", err)
	}
	for _, key := range keys {
		if err := snapshotter.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing the view of an image: %w", err)
		}
	}
	return nil
}

// mounted are the images, by ID, that image volumes show.
func (s *Store) mounted(ctx context.Context) (map[string]bool, error) {
	ids := map[string]bool{}
	err := s.daemon.Client().SnapshotService(s.cfg.Snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		ids[info.Labels[labelVolumeImage]] = true
		return nil
	}, fmt.Sprintf("labels.%q", labelVolumeImage))
	if err != nil {
		return nil, fmt.Errorf("listing image volumes: %w", err)
	}
	return ids, nil
}
