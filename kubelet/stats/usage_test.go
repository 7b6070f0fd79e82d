package stats

import (
	"os"
	"path/filepath"
	"testing"
)

// A folder's measure counts blocks: a file twice named once, a hole not at all.
func TestFolderOf(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before, err := FolderOf(t.Context(), dir)
	if err != nil || before.Inodes != 1 {
		t.Fatalf("an empty folder: %+v, %v", before, err)
	}
	write("a", 1<<20)
	write("deep/er/b", 1<<20)
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "deep", "again")); err != nil {
		t.Fatal(err)
	}
	hole, err := os.Create(filepath.Join(dir, "hole"))
	if err == nil {
		err = hole.Truncate(1 << 30)
	}
	if err != nil {
		t.Fatal(err)
	}
	hole.Close()
	after, err := FolderOf(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if grown := after.Bytes - before.Bytes; grown < 2<<20 || grown > 3<<20 {
		t.Errorf("two files of 1 MiB, one with two names, and a hole take %d bytes", grown)
	}
	if after.Inodes != 6 { // the folder, two in it, two files, the hole
		t.Errorf("%d inodes", after.Inodes)
	}
	if none, err := FolderOf(t.Context(), filepath.Join(dir, "none")); err != nil || none != (Folder{}) {
		t.Errorf("a folder that is not there: %+v, %v", none, err)
	}
}

// The machine itself can be read.
func TestMachine(t *testing.T) {
	if d, err := DiskOf(t.TempDir()); err != nil || d.Available == 0 || d.Available > d.Capacity || d.Device == 0 {
		t.Errorf("disk: %+v, %v", d, err)
	}
	for name, read := range map[string]func() (uint64, uint64, error){"memory": FreeMemory, "processes": Processes} {
		if left, all, err := read(); err != nil || left == 0 || left > all {
			t.Errorf("%s: %d of %d, %v", name, left, all, err)
		}
	}
}
