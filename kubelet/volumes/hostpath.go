package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

func isHostPath(s *corev1.VolumeSource) bool { return s.HostPath != nil }

// pathType says which modes satisfy a type of host path, and what is said when they don't
// (https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types).
type pathType struct {
	is   func(fs.FileMode) bool
	what string
	make func(path string) error // where nothing is there; nil: that is an error
}

var pathTypes = map[corev1.HostPathType]pathType{
	corev1.HostPathUnset:             {func(fs.FileMode) bool { return true }, "", makeHostFolder}, // as runtimes do for a bind mount
	corev1.HostPathDirectory:         {fs.FileMode.IsDir, "a directory", nil},
	corev1.HostPathDirectoryOrCreate: {fs.FileMode.IsDir, "a directory", makeHostFolder},
	corev1.HostPathFile:              {fs.FileMode.IsRegular, "a file", nil},
	corev1.HostPathFileOrCreate:      {fs.FileMode.IsRegular, "a file", makeHostFile},
	corev1.HostPathSocket:            {func(m fs.FileMode) bool { return m&fs.ModeSocket != 0 }, "a socket file", nil},
	corev1.HostPathCharDev:           {func(m fs.FileMode) bool { return m&fs.ModeCharDevice != 0 }, "a character device", nil},
	corev1.HostPathBlockDev:          {func(m fs.FileMode) bool { return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0 }, "a block device", nil},
}

// setupHostPath checks that the node's path is what the pod says it is, and makes it where the type asks for that.
func setupHostPath(_ context.Context, g Ground) (Volume, error) {
	path, want := g.Volume.HostPath.Path, corev1.HostPathUnset
	if g.Volume.HostPath.Type != nil {
		want = *g.Volume.HostPath.Type
	}
	kind, known := pathTypes[want]
	if !known {
		return Volume{}, fmt.Errorf("%s is an invalid volume type", want)
	}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && kind.make != nil {
		if err := kind.make(path); err != nil {
			return Volume{}, fmt.Errorf("host path: %w", err)
		}
		return Volume{Path: path}, nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !kind.is(st.Mode()):
		return Volume{}, fmt.Errorf("hostPath type check failed: %s is not %s", path, kind.what)
	case err != nil:
		return Volume{}, fmt.Errorf("host path: %w", err)
	}
	return Volume{Path: path}, nil
}

func makeHostFolder(path string) error { return os.MkdirAll(path, 0o755) }

func makeHostFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
