package containers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/api/types"
	"golang.org/x/sys/unix"
)

// What a container of a sandbox with users of its own is made of is mounted a second time, with its owners mapped, in a folder of the container's, and
// from there into the container. Once the container has it, the second mounts are taken down again: those of layers when the root file system is
// mounted, those of volumes when the OCI runtime has bound them. Nothing of them is needed later.

func (r *Runtime) mapDir() string { return filepath.Join(r.cfg.StateDir, "mapped") }

// mapsOf is the folder of one container; a part of its ID will do, for the paths of many layers must fit into the options of a mount.
func (r *Runtime) mapsOf(id string) string { return filepath.Join(r.mapDir(), id[:16]) }

// openUser opens the user namespace of a sandbox.
func (r *Runtime) openUser(sandbox string) (*os.File, error) {
	f, err := os.Open(filepath.Join(r.pinDir(sandbox), pinUser))
	if err != nil {
		return nil, fmt.Errorf("opening the sandbox's user namespace: %w", err)
	}
	return f, nil
}

// mapVolumes mounts the sources of a container's mounts with mapped owners, and gives the mounts with these sources.
func (r *Runtime) mapVolumes(id string, s Sandbox, mounts []Mount) ([]Mount, error) {
	user, err := r.openUser(s.ID)
	if err != nil {
		return nil, err
	}
	defer user.Close()
	mapped := make([]Mount, len(mounts))
	for i, m := range mounts {
		mapped[i] = m
		mapped[i].Source = filepath.Join(r.mapsOf(id), "v"+strconv.Itoa(i))
		if err := mapMount(m.Source, mapped[i].Source, user); err != nil {
			return nil, fmt.Errorf("mapping the owners of what is mounted at %s: %w", m.Target, err)
		}
		if mapped[i].locked, err = lockedIn(mapped[i]); err != nil {
			return nil, err
		}
	}
	return mapped, nil
}

// lockedIn are the options that must be said again where the OCI runtime mounts the source anew, read-only: as the sandbox's root it may not take
// them away (mount_namespaces(7)). Times of access stay as they are if nothing is said.
func lockedIn(m Mount) ([]string, error) {
	if !m.ReadOnly {
		return nil, nil // it is bound once and stays as it is
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.Source, &st); err != nil {
		return nil, fmt.Errorf("looking at the mount for %s: %w", m.Target, err)
	}
	var options []string
	for _, o := range []struct {
		flag int64
		name string
	}{{unix.ST_NOSUID, "nosuid"}, {unix.ST_NODEV, "nodev"}, {unix.ST_NOEXEC, "noexec"}} {
		if int64(st.Flags)&o.flag != 0 {
			options = append(options, o.name)
		}
	}
	return options, nil
}

// mapLayers changes the mount of a root file system so that its layers are mounts with mapped owners.
func (r *Runtime) mapLayers(c Container, root []*types.Mount) error {
	if len(root) != 1 || root[0].Type != "overlay" {
		return fmt.Errorf("a root file system that is no overlay cannot have users of its own: %w", ErrUnsupported)
	}
	user, err := r.openUser(c.SandboxID)
	if err != nil {
		return err
	}
	defer user.Close()
	for i, option := range root[0].Options {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "lowerdir":
			lowers := strings.Split(value, ":")
			for j, dir := range lowers {
				lowers[j] = filepath.Join(r.mapsOf(c.ID), strconv.Itoa(j))
				if err := mapMount(dir, lowers[j], user); err != nil {
					return fmt.Errorf("mapping the owners of a layer: %w", err)
				}
			}
			root[0].Options[i] = name + "=" + strings.Join(lowers, ":")
		case "upperdir": // it holds the root folder, and is the container's alone: its owners are the node's, unmapped
			if err := os.Chown(value, int(c.firstID), int(c.firstID)); err != nil {
				return fmt.Errorf("giving the writable layer to the sandbox's root: %w", err)
			}
		}
	}
	return nil
}

// mapTree clones the mounts from path on and maps the owners of the first, as the OCI runtimes do; what is mounted below it stays as it is.
func mapTree(path string, user *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, fmt.Errorf("cloning mount %s: %w", path, err)
	}
	tree := os.NewFile(uintptr(fd), path)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("the file system of %s cannot map owners: %w", path, errors.Join(ErrUnsupported, err))
	}
	if err == nil {
		err = slave(fd)
	}
	if err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return tree, nil
}

// slave makes cloned mounts hear of changes of the ones they were cloned from, but not tell them of any: to take down the clone of a tree that is shared
// would take down what is mounted in the tree, on the whole node.
func slave(tree int) error {
	err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_SLAVE})
	if err != nil {
		return fmt.Errorf("parting cloned mounts from their originals: %w", err)
	}
	return nil
}

// mapMount mounts what is at from, a folder or a file, at to with mapped owners.
func mapMount(from, to string, user *os.File) error {
	tree, err := mapTree(from, user)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o711); err != nil {
		return fmt.Errorf("making a folder for mounts: %w", err)
	}
	info, err := tree.Stat()
	if err != nil {
		return fmt.Errorf("looking at %s: %w", from, err)
	}
	if info.IsDir() {
		err = os.Mkdir(to, 0o711)
	} else {
		err = os.WriteFile(to, nil, 0o444)
	}
	if err != nil {
		return fmt.Errorf("making a place to mount at: %w", err)
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting at %s: %w", to, err)
	}
	return nil
}

// unmap takes the second mounts of a container down; safe if there are none.
func unmap(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading a folder of mounts: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmounting %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil { // never more than the place itself: what is mounted there must not go
			return fmt.Errorf("removing a place of a mount: %w", err)
		}
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("removing a folder of mounts: %w", err)
	}
	return nil
}
