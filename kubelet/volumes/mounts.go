package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kubelet/localvolumes"
)

// mountTmpfs makes dir a tmpfs that never goes to swap space, unless it is a mount already.
func mountTmpfs(dir string, options ...string) error {
	err := mountAt(dir, "tmpfs", append(options, "noswap")...)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) { // a kernel before 6.4, or not ours to say
		err = mountAt(dir, "tmpfs", options...)
	}
	return err
}

// mountAt mounts a file system that needs no device, unless dir is a mount already.
func mountAt(dir, kind string, options ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making a mount point: %w", err)
	}
	mounted, err := mountinfo.Mounted(dir)
	if err != nil {
		return fmt.Errorf("looking for a mount: %w", err)
	}
	if mounted {
		return nil
	}
	if err := unix.Mount(kind, dir, kind, unix.MS_NOSUID|unix.MS_NODEV, strings.Join(options, ",")); err != nil {
		return fmt.Errorf("mounting a %s: %w", kind, err)
	}
	return nil
}

// unmountBelow unmounts everything at or below dir, deepest first. A mount that is still busy is detached: its users keep it until they end.
// What was bound with all that is mounted in it leaves its group first, or the node would lose what is unmounted here, too (mount_namespaces(7)).
func unmountBelow(dir string) error {
	dir, err := named(dir)
	if err != nil {
		return err
	}
	for before := 0; ; {
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err != nil || len(mounts) == 0 {
			return err
		}
		slices.SortFunc(mounts, func(a, b *mountinfo.Info) int { return strings.Compare(b.Mountpoint, a.Mountpoint) })
		var errs []error
		for _, m := range mounts {
			if slices.ContainsFunc(mounts, func(other *mountinfo.Info) bool { return other.Parent == m.ID }) {
				errs = append(errs, unlessHidden("leaving the group of", m, unix.Mount("", m.Mountpoint, "", unix.MS_PRIVATE, "")))
			}
		}
		for _, m := range mounts {
			err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW)
			if errors.Is(err, unix.EBUSY) {
				err = unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			}
			errs = append(errs, unlessHidden("unmounting", m, err))
		}
		if before > 0 && len(mounts) >= before {
			return errors.Join(append(errs, fmt.Errorf("%s is still mounted", mounts[0].Mountpoint))...)
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		before = len(mounts) // some were hidden below others, and are seen now
	}
}

// named is the path that mounts are known by, without links. What is mounted at dir itself is not touched: it may be dead.
func named(dir string) (string, error) {
	above, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return dir, nil // nothing is there
	}
	return filepath.Join(above, filepath.Base(dir)), err
}

// unlessHidden is the error of what was done to a mount, unless it says that the mount is not seen there: it has gone, or is hidden.
func unlessHidden(what string, m *mountinfo.Info, err error) error {
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, m.Mountpoint, err)
}

// Remove removes a folder and all that is in it, but nothing through a mount: that is an error.
func Remove(ctx context.Context, dir string) error { return localvolumes.RemoveAll(ctx, dir) }
