package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// blockSize is that of a block volume.
const blockSize = 16 << 20

// bind mounts a folder, which is made, at another place, unless that is done.
func bind(from, to string) error {
	for _, dir := range []string{from, to} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if there, err := mounted(to); err != nil || there {
		return err
	}
	return unix.Mount(from, to, "", unix.MS_BIND, "")
}

// unmount ends a mount; what is none is no error.
func unmount(at string) error {
	err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func mounted(at string) (bool, error) {
	there, err := mountinfo.Mounted(at)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return there, err
}

// loop is the loop device of a block volume, which is made if it is not there.
func (d *driver) loop(handle string) (string, error) {
	image := d.content(handle) + ".img"
	if have, err := loopOf(image); err != nil || have != "" {
		return have, err
	}
	file, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if err := file.Truncate(blockSize); err != nil {
		return "", err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	for range 16 { // another program may take it first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("finding a free loop device: %w", err)
		}
		path := fmt.Sprint("/dev/loop", n)
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		err = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_FD, int(file.Fd()))
		if err == nil {
			info := &unix.LoopInfo64{}
			copy(info.File_name[:], image)
			err = unix.IoctlLoopSetStatus64(int(dev.Fd()), info)
		}
		if err = errors.Join(err, dev.Close()); !errors.Is(err, unix.EBUSY) {
			return path, err
		}
	}
	return "", errors.New("no loop device is free")
}

// unloop frees the loop device of a volume.
func (d *driver) unloop(handle string) error {
	path, err := loopOf(d.content(handle) + ".img")
	if err != nil || path == "" {
		return err
	}
	dev, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0), dev.Close())
}

// loopOf finds the loop device of a file, empty if there is none.
func loopOf(image string) (string, error) {
	found, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, f := range found {
		text, err := os.ReadFile(f)
		if err == nil && strings.TrimSpace(string(text)) == image {
			return "/dev/" + strings.Split(f, "/")[3], nil
		}
	}
	return "", nil
}

// publishDevice puts the loop device of a block volume at its target.
func (d *driver) publishDevice(r *spec.NodePublishVolumeRequest) error {
	dev, err := d.loop(r.VolumeId)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(r.TargetPath, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if there, err := mounted(r.TargetPath); err != nil || there {
		return err
	}
	return unix.Mount(dev, r.TargetPath, "", unix.MS_BIND, "")
}
