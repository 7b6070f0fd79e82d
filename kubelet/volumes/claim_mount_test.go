package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGiveToGroup gives away whatever names a container has chosen; a name need not be text.
func TestGiveToGroup(t *testing.T) {
	dir := t.TempDir()
	const odd = "/caf\xe9"
	if err := errors.Join(os.MkdirAll(dir+odd+"/in", 0o755), os.WriteFile(dir+odd+"/in/f\xff", nil, 0o600), os.Symlink(".", dir+odd+"/self")); err != nil {
		t.Fatal(err)
	}
	if err := giveToGroup(dir, 2000, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", odd, odd + "/in", odd + "/in/f\xff", odd + "/self"} {
		info, err := os.Lstat(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		if group(info) != 2000 || info.Mode()&os.ModeSymlink == 0 && info.Mode()&groupFile != groupFile {
			t.Errorf("%q: group %d, mode %v", name, group(info), info.Mode())
		}
	}
}

// TestGiveDeep: a pod may nest folders deeper than any path is long.
func TestGiveDeep(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	roots := []*os.Root{root}
	defer func() {
		for _, r := range roots {
			r.Close()
		}
	}()
	for range 5000 {
		last := roots[len(roots)-1]
		if err := last.Mkdir("d", 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := last.OpenRoot("d")
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, next)
		if len(roots) > 10 {
			if err := roots[0].Close(); err != nil {
				t.Fatal(err)
			}
			roots = roots[1:]
		}
	}
	if err := giveToGroup(dir, 2000, false); err != nil {
		t.Fatal(err)
	}
	info, err := roots[len(roots)-1].Stat(".")
	if err != nil || group(info) != 2000 || info.Mode()&groupFolder != groupFolder {
		t.Errorf("the deepest: %v, %v", info, err)
	}
	if err := Remove(t.Context(), filepath.Join(dir, "d")); err != nil {
		t.Error(err)
	}
}

// TestMountWithKeeps: what the folder's own mount forbids stays forbidden, unless the volume says otherwise.
func TestMountWithKeeps(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := unix.Mount("tmpfs", from, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unmountBelow(to), unmountBelow(from)); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		if err := mountWith(from, to, []string{"noatime", "exec"}); err != nil {
			t.Fatal(err)
		}
		var st unix.Statfs_t
		const all = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_RDONLY | unix.ST_NOATIME
		if err := unix.Statfs(to, &st); err != nil || st.Flags&all != unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOATIME {
			t.Errorf("%#x %v", st.Flags&all, err)
		}
	}
}
