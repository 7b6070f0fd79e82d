package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// file is the content of one file and its mode.
type file struct {
	data []byte
	mode int32
	uid  *int64 // whose it is; nil: root's
}

const (
	dataLink  = "..data"     // the symbolic link that decides what is seen
	dataTemp  = "..data_new" // renamed over it
	dataStamp = "..content-" // folders of content
)

// write makes the content of dir exactly these files, all at once: a reader sees the old ones or the new ones.
//
//	dir/..content-123/a       the files
//	dir/..data -> ..content-123
//	dir/a      -> ..data/a    a link a top-level name
//
// A change is a new content folder and one rename of ..data; then links and folders nobody needs any more are removed.
func write(dir string, files map[string]file, gid *int64) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	current, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if current != "" && holds(filepath.Join(dir, current), files, gid) {
		return tidy(dir, current, files) // a crash may have left the last step undone
	}
	next, err := os.MkdirTemp(dir, dataStamp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(next))
		}
	}()
	if err := os.Chmod(next, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		if err := put(filepath.Join(next, name), f, gid); err != nil {
			return err
		}
	}
	if gid != nil {
		if err := forGroup(next, int(*gid)); err != nil {
			return err
		}
	}
	temp := filepath.Join(dir, dataTemp)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(next), temp); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	return tidy(dir, filepath.Base(next), files)
}

func put(name string, f file, gid *int64) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, f.data, 0o600); err != nil {
		return err
	}
	if f.uid != nil || gid != nil {
		user, group := int64(0), int64(0)
		if f.uid != nil {
			user = *f.uid
		}
		if gid != nil {
			group = *gid
		}
		if err := os.Chown(name, int(user), int(group)); err != nil {
			return err
		}
	}
	return os.Chmod(name, f.shown(gid))
}

// shown is the mode that the file gets: the pod's group may read it, and so may its owner, whatever was asked for
// (https://kubernetes.io/docs/tasks/configure-pod-container/security-context/, fsGroup).
func (f file) shown(gid *int64) fs.FileMode {
	mode := fs.FileMode(f.mode) & fs.ModePerm
	if gid != nil {
		mode |= 0o440
	}
	return mode
}

// forGroup gives the folders at and below dir to a group.
func forGroup(dir string, gid int) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if err := os.Chown(path, 0, gid); err != nil {
			return err
		}
		return os.Chmod(path, 0o755|fs.ModeSetgid)
	})
}

// holds says whether a content folder is these files and no others.
func holds(dir string, files map[string]file, gid *int64) bool {
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, wanted := files[name]
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !wanted || info.Mode().Perm() != f.shown(gid) || !bytes.Equal(data, f.data) {
			return fs.ErrInvalid
		}
		found++
		return nil
	})
	return err == nil && found == len(files)
}

// tidy makes the links of the top level and removes what is not needed any more.
func tidy(dir, current string, files map[string]file) error {
	want := map[string]bool{dataLink: true, current: true}
	for name := range files {
		top, _, _ := strings.Cut(name, string(filepath.Separator))
		want[top] = true
	}
	have, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range have {
		if !want[e.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for top := range want {
		if top == dataLink || top == current || slices.ContainsFunc(have, func(e fs.DirEntry) bool { return e.Name() == top }) {
			continue
		}
		if err := os.Symlink(filepath.Join(dataLink, top), filepath.Join(dir, top)); err != nil {
			return fmt.Errorf("linking %s: %w", top, err)
		}
	}
	return nil
}
