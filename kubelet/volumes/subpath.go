package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Sub is the path of a file or folder within the volume, never outside of it whatever links the volume holds. A missing one is made as a folder,
// unless the volume is read-only.
func (v Volume) Sub(subPath string) (string, error) {
	if subPath == "" {
		return v.Path, nil
	}
	if _, err := inside(subPath); err != nil {
		return "", err
	}
	full, err := securejoin.SecureJoin(v.Path, subPath)
	if err != nil {
		return "", fmt.Errorf("finding sub path %q: %w", subPath, err)
	}
	if _, err := os.Stat(full); errors.Is(err, fs.ErrNotExist) && !v.ReadOnly {
		err = os.MkdirAll(full, 0o750)
		if err == nil {
			err = os.Chmod(full, 0o777)
		}
		if err != nil {
			return "", fmt.Errorf("making sub path %q: %w", subPath, err)
		}
	} else if err != nil {
		return "", fmt.Errorf("finding sub path %q: %w", subPath, err)
	}
	return full, nil
}
