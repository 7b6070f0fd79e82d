package volumes

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

const imageKind = "image"

func isImage(s *corev1.VolumeSource) bool { return s.Image != nil }

// setupImage shows the files of an image, which nobody can change
// (https://kubernetes.io/docs/concepts/storage/volumes/#image).
func setupImage(ctx context.Context, g Ground) (Volume, error) {
	if g.Images == nil {
		return Volume{}, ErrUnsupported
	}
	ref, err := g.Images.Mount(ctx, g.Pod, g.Volume, g.Dir)
	if err != nil {
		return Volume{}, err
	}
	return Volume{Path: g.Dir, ReadOnly: true, ImageRef: ref}, nil
}
