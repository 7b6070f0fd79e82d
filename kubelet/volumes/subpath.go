package volumes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// subPaths is the folder beside the volumes' own where files and folders within them are bound.
const subPaths = "sub-paths"

// Sub is where a file or folder within the volume can be mounted from, by a mount of the container that is told. It is what the sub path
// led to when it was looked at, never anything outside of the volume: it is opened within the volume and bound by that handle to a path
// that containers cannot reach, so neither a link in the volume nor one that is put there in between leads the runtime elsewhere
// (CVE-2017-1002101, CVE-2021-25741). A missing one is made as a folder with the volume's mode, unless the volume is read-only. Teardown takes it away.
func (v Volume) Sub(subPath, container string, mount int) (string, error) {
	if subPath == "" || filepath.Clean(subPath) == "." {
		return v.Path, nil
	}
	if filepath.IsAbs(subPath) {
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", subPath)
	}
	if slices.Contains(strings.Split(subPath, "/"), "..") {
		return "", fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", subPath)
	}
	bound, err := v.bind(subPath, filepath.Join(v.subs, container, fmt.Sprint(mount)))
	if err != nil {
		return "", fmt.Errorf("sub path %q: %w", subPath, err)
	}
	return bound, nil
}

func (v Volume) bind(subPath, to string) (_ string, err error) {
	root, err := os.OpenFile(v.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	found, err := pathrs.OpenatInRoot(root, subPath)
	if errors.Is(err, fs.ErrNotExist) && !v.ReadOnly {
		found, err = makeFolder(root, subPath)
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	info, err := found.Stat()
	if err != nil {
		return "", err
	}
	if err := place(to, info.IsDir()); err != nil {
		return "", err
	}
	if err := unix.Mount(handle(found), to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("binding it: %w", err)
	}
	return to, nil
}

// ReadFile reads a file within the volume, whose links lead nowhere else; it is an error when it is longer than most bytes, or no file.
func (v Volume) ReadFile(path string, most int64) (_ []byte, err error) {
	root, err := os.OpenFile(v.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	found, err := pathrs.OpenatInRoot(root, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	info, err := found.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // before it is opened: whoever opens a pipe waits for its writer
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(handle(found))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return data, nil
}

// makeFolder makes the folders of a path within root, each with the mode (and, where that says so, the group) of root itself, and returns the
// last.
func makeFolder(root *os.File, subPath string) (*os.File, error) {
	info, err := root.Stat()
	if err != nil {
		return nil, err
	}
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetgid | fs.ModeSticky)
	parts := strings.Split(filepath.Clean(subPath), string(filepath.Separator))
	for i := range parts {
		upTo := filepath.Join(parts[:i+1]...)
		found, err := pathrs.OpenatInRoot(root, upTo)
		if errors.Is(err, fs.ErrNotExist) {
			if found, err = pathrs.MkdirAllHandle(root, upTo, mode.Perm()); err == nil {
				err = os.Chmod(handle(found), mode) // whatever the mask of new files is
			}
		}
		if err != nil || i+1 == len(parts) {
			return found, err
		}
		if err := found.Close(); err != nil {
			return nil, err
		}
	}
	return nil, fs.ErrInvalid // a path has at least one part
}

// place makes an empty file or folder to mount on, without what a former life of the container had mounted there.
func place(at string, folder bool) error {
	err := os.Remove(at)
	if errors.Is(err, unix.EBUSY) {
		if err = unmountBelow(at); err == nil {
			err = os.Remove(at)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if folder {
		return os.MkdirAll(at, 0o700)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	return os.WriteFile(at, nil, 0o600)
}

// handle is the path of what is open, whatever its name leads to now.
func handle(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
