package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// mountFlags are the mount options that a folder can have when it is mounted again: set, or taken away.
var mountFlags = map[string]struct{ set, clear uintptr }{
	"defaults": {}, "bind": {}, "rbind": {}, "rw": {clear: unix.MS_RDONLY}, "ro": {set: unix.MS_RDONLY},
	"noexec": {set: unix.MS_NOEXEC}, "exec": {clear: unix.MS_NOEXEC},
	"nosuid": {set: unix.MS_NOSUID}, "suid": {clear: unix.MS_NOSUID},
	"nodev": {set: unix.MS_NODEV}, "dev": {clear: unix.MS_NODEV},
	"noatime": {set: unix.MS_NOATIME}, "atime": {clear: unix.MS_NOATIME},
	"nodiratime": {set: unix.MS_NODIRATIME}, "diratime": {clear: unix.MS_NODIRATIME},
	"relatime": {set: unix.MS_RELATIME}, "norelatime": {clear: unix.MS_RELATIME},
	"strictatime": {set: unix.MS_STRICTATIME},
}

// mountWith mounts a folder at another place, with options, unless that is done.
func mountWith(from, to string, options []string) error {
	for _, o := range options {
		if _, known := mountFlags[o]; !known {
			return fmt.Errorf("mount option %q is not supported for a folder of the node", o)
		}
	}
	if err := os.MkdirAll(to, 0o750); err != nil {
		return fmt.Errorf("making a mount point: %w", err)
	}
	mounted, err := mountinfo.Mounted(to)
	if err != nil {
		return fmt.Errorf("looking for a mount: %w", err)
	}
	if !mounted {
		if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", from, err)
		}
	}
	flags, err := forbidden(to)
	if err != nil {
		return fmt.Errorf("looking at a mount: %w", err)
	}
	for _, o := range options {
		flags = flags&^mountFlags[o].clear | mountFlags[o].set
	}
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("mounting %s with %q: %w", from, options, err)
	}
	return nil
}

// forbidden are the flags by which a mount forbids something: mounting again with others would drop them. Those of times of access stay
// unless others are given (mount(2)).
func forbidden(at string) (uintptr, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return 0, err
	}
	return uintptr(st.Flags) & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC), nil // which statfs(2) has as the same bits
}

// onMismatch says whether a volume that looks as if it were its group's already is left as it is
// (https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#configure-volume-permission-and-ownership-change-policy-for-pods).
func onMismatch(p *corev1.Pod) bool {
	policy := p.Spec.SecurityContext.FSGroupChangePolicy
	return policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch
}

const (
	groupFile   fs.FileMode = 0o660
	groupFolder             = groupFile | 0o110 | fs.ModeSetgid
)

// giveToGroup makes a folder and all in it a group's, readable and writable for it, and what is made there later, too. No link is followed
// and none leads out.
func giveToGroup(dir string, gid int, unlessRootIs bool) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if unlessRootIs {
		info, err := root.Stat(".")
		if err != nil {
			return err
		}
		if group(info) == gid && info.Mode()&(fs.ModePerm|fs.ModeSetgid)&groupFolder == groupFolder {
			return nil
		}
	}
	return giveAll(root, ".", gid, 0)
}

// deep is how many folders down a walk goes before it goes on from there: every name is looked up from where it began, and a pod may nest folders
// until that takes hours.
const deep = 32

// giveAll gives a file or folder, and all that is in it. What is removed meanwhile is no error: others may use the volume. (fs.WalkDir would
// not enter folders whose names are not UTF-8.)
func giveAll(root *os.Root, at string, gid, depth int) (err error) {
	folder, err := giveOne(root, at, gid)
	if err != nil || !folder {
		return unlessGone(err, at)
	}
	if depth == deep {
		lower, missing := root.OpenRoot(at)
		if missing != nil {
			return unlessGone(missing, at)
		}
		defer func() { err = errors.Join(err, lower.Close()) }()
		root, at, depth = lower, ".", 0
	}
	names, err := namesIn(root, at)
	if err != nil {
		return unlessGone(err, at)
	}
	for _, name := range names {
		if err := giveAll(root, filepath.Join(at, name), gid, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// unlessGone is err, unless it says that something within the volume is not there any more.
func unlessGone(err error, at string) error {
	if errors.Is(err, fs.ErrNotExist) && at != "." {
		return nil
	}
	return err
}

func namesIn(root *os.Root, at string) (names []string, err error) {
	f, err := root.OpenFile(at, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Readdirnames(-1)
}

func giveOne(root *os.Root, path string, gid int) (folder bool, err error) {
	info, err := root.Lstat(path)
	if err != nil {
		return false, err
	}
	if group(info) != gid {
		if err := root.Lchown(path, -1, gid); err != nil {
			return false, err
		}
	}
	want := info.Mode()
	switch {
	case want&fs.ModeSymlink != 0:
		return false, nil
	case want.IsDir():
		want |= groupFolder
	default:
		want |= groupFile
	}
	if want == info.Mode() {
		return want.IsDir(), nil
	}
	return want.IsDir(), root.Chmod(path, want)
}

func group(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Gid) }
