package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/pkg/pod"
)

const emptyDirKind = "empty-dir"

func isEmptyDir(s *corev1.VolumeSource) bool { return s.EmptyDir != nil }

// setupEmptyDir makes an empty folder for everybody that lives as long as the pod: on the node's disk, in memory, or in huge pages. One that
// is there stays as it is: a container may have changed its mode.
func setupEmptyDir(_ context.Context, g Ground) (Volume, error) {
	gid := fsGroup(g.Pod)
	var err error
	switch medium := g.Volume.EmptyDir.Medium; {
	case medium == corev1.StorageMediumDefault:
		err = openFolder(g.Dir, gid)
	case medium == corev1.StorageMediumMemory:
		options := []string{"mode=0777"}
		if gid != nil {
			options = []string{"mode=02777", fmt.Sprint("gid=", *gid)}
		}
		if size := memoryLimit(g.Pod, g.Volume.EmptyDir.SizeLimit, g.Facts.Allocatable); size > 0 {
			options = append(options, fmt.Sprint("size=", size))
		}
		err = mountTmpfs(g.Dir, options...)
	case medium == corev1.StorageMediumHugePages, strings.HasPrefix(string(medium), string(corev1.StorageMediumHugePagesPrefix)):
		err = hugeFolder(g, gid)
	default:
		err = fmt.Errorf("medium %q: %w", medium, ErrUnsupported)
	}
	if err != nil {
		return Volume{}, err
	}
	return Volume{Path: g.Dir}, nil
}

// openFolder makes a folder beside its place and moves it there, so that one that is there is whole, wherever a crash came.
func openFolder(dir string, gid *int64) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	next := dir + ".new" // no volume's name has a dot
	if err := os.MkdirAll(next, 0o750); err != nil {
		return fmt.Errorf("making an empty folder: %w", err)
	}
	mode := fs.FileMode(0o777)
	if gid != nil {
		mode |= fs.ModeSetgid
		if err := os.Chown(next, 0, int(*gid)); err != nil {
			return fmt.Errorf("giving an empty folder to group %d: %w", *gid, err)
		}
	}
	if err := os.Chmod(next, mode); err != nil {
		return fmt.Errorf("opening an empty folder to all: %w", err)
	}
	return os.Rename(next, dir)
}

// memoryLimit is how much a folder in memory may hold: what it says itself, if neither the pod nor the node has less; 0 is no limit
// (https://kubernetes.io/docs/concepts/storage/volumes/#emptydir).
func memoryLimit(p *corev1.Pod, own *resource.Quantity, allocatable corev1.ResourceList) int64 {
	limit := allocatable.Memory().Value()
	less := func(than int64) {
		if than > 0 && (limit == 0 || than < limit) {
			limit = than
		}
	}
	if pod.Bounded(p, corev1.ResourceMemory) {
		limits := pod.Limits(p)
		less(limits.Memory().Value())
	}
	if own != nil {
		less(own.Value())
	}
	return limit
}

// hugeFolder mounts a folder whose files are made of huge pages.
func hugeFolder(g Ground, gid *int64) error {
	size, err := pageSize(g.Pod, g.Volume.EmptyDir.Medium)
	if err != nil {
		return err
	}
	options := []string{fmt.Sprint("pagesize=", size), "mode=0777"}
	if gid != nil {
		options = append(options, fmt.Sprint("gid=", *gid))
	}
	if own := g.Volume.EmptyDir.SizeLimit; own != nil && !own.IsZero() {
		options = append(options, fmt.Sprint("size=", own.Value()))
	}
	if err := mountAt(g.Dir, "hugetlbfs", options...); err != nil {
		return err
	}
	if gid == nil {
		return nil
	}
	return os.Chmod(g.Dir, 0o777|fs.ModeSetgid) // a mount option cannot say this
}

// pageSize is which of the huge pages that the pod asks for a medium means, in bytes. HugePages alone means the only ones
// (https://kubernetes.io/docs/tasks/manage-hugepages/scheduling-hugepages/).
func pageSize(p *corev1.Pod, medium corev1.StorageMedium) (int64, error) {
	lists := []corev1.ResourceList{}
	if p.Spec.Resources != nil {
		lists = append(lists, p.Spec.Resources.Requests)
	}
	for _, c := range pod.Containers(p) {
		lists = append(lists, c.Resources.Requests)
	}
	asked, only := map[int64]bool{}, int64(0)
	for _, list := range lists {
		for name := range list {
			if text, huge := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); huge {
				size, err := resource.ParseQuantity(text)
				if err != nil {
					return 0, fmt.Errorf("size of huge pages in %s: %w", name, err)
				}
				only = size.Value()
				asked[only] = true
			}
		}
	}
	if text, sized := strings.CutPrefix(string(medium), string(corev1.StorageMediumHugePagesPrefix)); sized {
		size, err := resource.ParseQuantity(text)
		if err != nil {
			return 0, fmt.Errorf("medium %q: %w", medium, err)
		}
		if !asked[size.Value()] {
			return 0, fmt.Errorf("medium %q: the pod requests no huge pages of that size", medium)
		}
		return size.Value(), nil
	}
	if len(asked) != 1 {
		return 0, fmt.Errorf("medium %q: the pod requests huge pages of %d sizes, want one", medium, len(asked))
	}
	return only, nil
}

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}
