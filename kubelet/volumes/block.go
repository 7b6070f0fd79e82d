package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// deviceFile is, in the folder of a claim, the file that is given to the pod by a loop device.
const deviceFile = "device"

func isBlock(mode *corev1.PersistentVolumeMode) bool {
	return mode != nil && *mode == corev1.PersistentVolumeBlock
}

// localDevice is a local volume that is given as a device: a block device of the node, or a file, for which a loop device is made.
func (g Ground) localDevice(path string) (Volume, error) {
	made := Volume{Device: path, ReadOnly: g.readOnly()}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Volume{}, fmt.Errorf("path %q does not exist", path)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("local path: %w", err)
	}
	switch {
	case st.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice:
		return made, nil
	case !st.Mode().IsRegular():
		return Volume{}, fmt.Errorf("local path %s is not a block device (its mode is %s)", path, st.Mode())
	}
	if path, err = filepath.EvalSymlinks(path); err != nil { // as the kernel says it
		return Volume{}, fmt.Errorf("local path: %w", err)
	}
	g.using.Lock() // no other pod frees it, or makes another
	defer g.using.Unlock()
	if err := os.WriteFile(filepath.Join(g.Dir, deviceFile), []byte(path), 0o600); err != nil {
		return Volume{}, fmt.Errorf("noting the file of a device: %w", err)
	}
	if made.Device, err = attachLoop(path); err != nil {
		return Volume{}, fmt.Errorf("making a loop device of %s: %w", path, err)
	}
	return made, nil
}

// freeDevices frees the loop devices that a pod has, unless another has them, too.
func (m *Manager) freeDevices(uid types.UID) error {
	claims := filepath.Join(m.volumesDir(uid), claimKind)
	names, err := foldersIn(claims)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := freeDevice(m.root, &m.using, filepath.Join(claims, name)); err != nil {
			return err
		}
	}
	return nil
}

type locker interface {
	Lock()
	Unlock()
}

// freeDevice frees the loop device that is noted in the folder of a claim.
func freeDevice(root string, using locker, dir string) error {
	note := filepath.Join(dir, deviceFile)
	path, err := os.ReadFile(note)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the file of a device: %w", err)
	}
	using.Lock()
	defer using.Unlock()
	others, err := filepath.Glob(filepath.Join(quoteGlob(root), "pods", "*", "volumes", claimKind, "*", deviceFile))
	if err != nil {
		return fmt.Errorf("looking for users of a device: %w", err)
	}
	shared := false
	for _, other := range others {
		text, err := os.ReadFile(other)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("looking for users of a device: %w", err)
		}
		shared = shared || other != note && err == nil && string(text) == string(path)
	}
	if !shared {
		if err := detachLoop(string(path)); err != nil {
			return fmt.Errorf("freeing the loop device of %s: %w", path, err)
		}
	}
	if err := os.Remove(note); err != nil {
		return fmt.Errorf("forgetting the file of a device: %w", err)
	}
	return nil
}

// quoteGlob makes a pattern that only means what it says.
func quoteGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// loopOf finds the loop device of a file; empty if there is none (loop(4)).
func loopOf(file string) (string, error) {
	found, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, f := range found {
		text, err := os.ReadFile(f)
		if err == nil && strings.TrimSuffix(string(text), "\n") == file {
			return "/dev/" + strings.Split(f, "/")[3], nil
		}
	}
	return "", nil
}

// attachLoop makes a loop device of a file, unless there is one.
func attachLoop(file string) (string, error) {
	if have, err := loopOf(file); err != nil || have != "" {
		return have, err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	for range 64 { // another program may take the device first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("finding a free one: %w", err)
		}
		path := fmt.Sprint("/dev/loop", n)
		if err = setLoop(path, file); !errors.Is(err, unix.EBUSY) {
			return path, err
		}
	}
	return "", errors.New("none is free")
}

func setLoop(device, file string) (err error) {
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer backing.Close()
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_FD, int(backing.Fd())); err != nil {
		return err
	}
	info := &unix.LoopInfo64{}
	copy(info.File_name[:len(info.File_name)-1], file)
	return unix.IoctlLoopSetStatus64(int(dev.Fd()), info)
}

// detachLoop frees the loop device of a file. The kernel waits with that until nobody has it open.
func detachLoop(file string) error {
	device, err := loopOf(file)
	if err != nil || device == "" {
		return err
	}
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0)
	if errors.Is(err, unix.ENXIO) {
		err = nil // free already
	}
	return errors.Join(err, dev.Close())
}
