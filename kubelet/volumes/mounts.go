package volumes

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
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
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	slices.SortFunc(mounts, func(a, b *mountinfo.Info) int { return strings.Compare(b.Mountpoint, a.Mountpoint) })
	var errs []error
	for _, m := range mounts {
		err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("%s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}
