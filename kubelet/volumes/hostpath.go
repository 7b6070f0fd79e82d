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

// setupHostPath checks that the node's path is what the pod says it is, and makes it where the type asks for that.
func setupHostPath(_ context.Context, g Ground) (Volume, error) {
	path, want := g.Volume.HostPath.Path, corev1.HostPathUnset
	if g.Volume.HostPath.Type != nil {
		want = *g.Volume.HostPath.Type
	}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		switch want {
		case corev1.HostPathDirectoryOrCreate, corev1.HostPathUnset: // a runtime makes the folder of a bind mount that isn't there
			err = os.MkdirAll(path, 0o755)
		case corev1.HostPathFileOrCreate:
			var f *os.File
			if f, err = os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644); err == nil {
				err = f.Close()
			}
		}
		if err == nil {
			return Volume{Path: path}, nil
		}
	}
	if err != nil {
		return Volume{}, fmt.Errorf("host path: %w", err)
	}
	if is := st.Mode(); !allowed[want](is) {
		return Volume{}, fmt.Errorf("host path %s is not a %s (its mode is %s)", path, want, is)
	}
	return Volume{Path: path}, nil
}

// allowed says which modes satisfy a type.
var allowed = map[corev1.HostPathType]func(fs.FileMode) bool{
	corev1.HostPathUnset:             func(fs.FileMode) bool { return true },
	corev1.HostPathDirectory:         fs.FileMode.IsDir,
	corev1.HostPathDirectoryOrCreate: fs.FileMode.IsDir,
	corev1.HostPathFile:              fs.FileMode.IsRegular,
	corev1.HostPathFileOrCreate:      fs.FileMode.IsRegular,
	corev1.HostPathSocket:            func(m fs.FileMode) bool { return m&fs.ModeSocket != 0 },
	corev1.HostPathCharDev:           func(m fs.FileMode) bool { return m&fs.ModeCharDevice != 0 },
	corev1.HostPathBlockDev:          func(m fs.FileMode) bool { return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0 },
}
