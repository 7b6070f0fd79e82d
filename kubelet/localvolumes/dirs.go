package localvolumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/localvolume"
)

// ErrElsewhere: a volume's folder is not where this node keeps the folders of volumes.
var ErrElsewhere = errors.New("the folder is not below this node's --local-path-dir")

// Dirs are the folders, all in one. Safe for concurrent use for different volumes.
type Dirs struct{ path string }

// NewDirs stores the folder of the folders; it is made when it is needed.
func NewDirs(path string) *Dirs { return &Dirs{path} }

// check refuses a volume whose folder is not DIR/NAME: nothing else is ever made or removed.
func (d *Dirs) check(v *corev1.PersistentVolume) error {
	if !localvolume.Ours(v) || v.Spec.Local.Path != localvolume.Path(d.path, v.Name) {
		return fmt.Errorf("folder of volume %s: %w", v.Name, ErrElsewhere)
	}
	return nil
}

// Make makes a volume's folder, unless it is there, and says whether it was made now.
//
// Its mode is 0777: who a pod's containers run as is not known here, and a pod that says nothing of groups must be able to write
// as whatever user. A pod with an fsGroup makes the folder its group's when it mounts it, with the set-group-ID bit, so that what
// is written there belongs to the group, too. Strangers on the node are kept out by the folder above, which only root may enter.
func (d *Dirs) Make(v *corev1.PersistentVolume) (made bool, err error) {
	if err := d.check(v); err != nil {
		return false, err
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return false, fmt.Errorf("making the folder of volumes: %w", err)
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return false, fmt.Errorf("opening the folder of volumes: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	err = root.Mkdir(v.Name, 0o777)
	if errors.Is(err, fs.ErrExist) {
		info, err := root.Lstat(v.Name)
		if err != nil {
			return false, fmt.Errorf("looking at the folder of volume %s: %w", v.Name, err)
		}
		if !info.IsDir() {
			return false, fmt.Errorf("the folder of volume %s is no folder (its mode is %s)", v.Name, info.Mode())
		}
		return false, nil // its mode is its users' now
	}
	if err != nil {
		return false, fmt.Errorf("making the folder of volume %s: %w", v.Name, err)
	}
	if err := root.Chmod(v.Name, 0o777); err != nil { // whatever the umask
		return false, fmt.Errorf("opening the folder of volume %s to all: %w", v.Name, err)
	}
	return true, nil
}

// Remove removes a volume's folder and all that is in it; one that is gone is no error. It stays below DIR/NAME: no link is followed,
// and what something is mounted on is an error, which the kernel itself sees to, since every name is removed before it is entered.
func (d *Dirs) Remove(ctx context.Context, v *corev1.PersistentVolume) (err error) {
	if err := d.check(v); err != nil {
		return err
	}
	above, err := os.OpenRoot(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the folder of volumes: %w", err)
	}
	defer func() { err = errors.Join(err, above.Close()) }()
	if err := remove(ctx, above, v.Name); err != nil {
		return fmt.Errorf("removing the folder of volume %s: %w", v.Name, err)
	}
	return nil
}

// RemoveAll removes a folder and all that is in it, whoever made it how deep; one that is gone is no error. No link is followed, and what something
// is mounted on is an error.
func RemoveAll(ctx context.Context, dir string) (err error) {
	above, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return gone(err)
	}
	defer func() { err = errors.Join(err, above.Close()) }()
	return remove(ctx, above, filepath.Base(dir))
}

// Names are all folders.
func (d *Dirs) Names() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing the folder of volumes: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

const (
	// deep is how far a tree is walked down. What is deeper is moved up first: a pod may nest folders until every path into them, and
	// every handle that a walk holds open, is too much.
	deep = 32
	// many is how many names are read at once: a pod may make more than memory holds.
	many = 1024
)

// remove removes a folder of above.
func remove(ctx context.Context, above *os.Root, name string) error {
	for {
		err := above.Remove(name)
		if !notEmpty(err) {
			return gone(err)
		}
		tree, err := above.OpenRoot(name)
		if err != nil {
			return err
		}
		r := remover{top: tree}
		if err := errors.Join(r.empty(ctx, ".", 0), tree.Close()); err != nil {
			return err
		}
	}
}

// gone is err unless it says that there is nothing to remove any more.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// notEmpty says whether a folder could not be removed because something is in it.
func notEmpty(err error) bool { return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) }

// remover empties one folder, which it never leaves.
type remover struct {
	top   *os.Root
	moved int // folders that were moved up
}

// empty removes some of what is in a folder; what is too deep is at the top then.
func (r *remover) empty(ctx context.Context, at string, depth int) error {
	names, err := r.list(at)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.remove(ctx, path.Join(at, name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (r *remover) remove(ctx context.Context, at string, depth int) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.top.Remove(at)
		if !notEmpty(err) {
			return gone(err) // EBUSY: it is mounted on
		}
		if depth == deep {
			return r.moveUp(at)
		}
		if err := r.empty(ctx, at, depth); err != nil {
			return err
		}
	}
}

// moveUp moves a deep folder to the top, where a later look finds it.
func (r *remover) moveUp(at string) error {
	for {
		r.moved++
		to := ".removing-" + strconv.Itoa(r.moved)
		_, err := r.top.Lstat(to)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return r.top.Rename(at, to)
		case err != nil:
			return err
		}
	}
}

// list reads some of the names in a folder.
func (r *remover) list(at string) (names []string, err error) {
	f, err := r.top.Open(at)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	names, err = f.Readdirnames(many)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
