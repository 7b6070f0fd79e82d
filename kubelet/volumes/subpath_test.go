package volumes

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSubRace: who shares a volume exchanges a folder and a link to the node's files as fast as it can. What is bound is the one that is in the
// volume, or nothing.
func TestSubRace(t *testing.T) {
	volume, subs, host := t.TempDir(), t.TempDir(), t.TempDir()
	t.Cleanup(func() {
		if err := unmountBelow(subs); err != nil {
			t.Error(err)
		}
	})
	for path, text := range map[string]string{filepath.Join(volume, "folder/who"): "volume", filepath.Join(host, "who"): "host"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(host, filepath.Join(volume, "link")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(volume, "folder"), unix.AT_FDCWD, filepath.Join(volume, "link"), unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer all.Wait()
	defer close(stop)
	v := Volume{Path: volume, subs: subs}
	bound := 0
	for range 500 {
		got, err := v.Sub("folder", "c", 0)
		if err != nil {
			continue // the link leads to nothing within the volume, and nothing can be made there
		}
		who, err := os.ReadFile(filepath.Join(got, "who"))
		if err == nil && string(who) != "volume" {
			t.Fatalf("the container has the files of the %s", who)
		}
		if err == nil {
			bound++
		}
	}
	if bound == 0 {
		t.Error("the folder was never bound: the race was not run")
	}
	if _, err := os.Stat(filepath.Join(host, "who")); err != nil {
		t.Errorf("the node's file: %v", err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.MkdirAll(at("etc"), 0o755), os.WriteFile(at("etc/passwd"), []byte("ours"), 0o600), os.WriteFile(at("long"), []byte("12345"), 0o600),
		unix.Mkfifo(at("pipe"), 0o600), os.Symlink("/etc/passwd", at("link")), os.Symlink("../../../etc/passwd", at("up"))); err != nil {
		t.Fatal(err)
	}
	v := Volume{Path: dir}
	for _, c := range []struct{ path, want, fails string }{
		{"etc/passwd", "ours", ""}, {"link", "ours", ""}, {"up", "ours", ""},
		{"long", "", "longer than 4 bytes"}, {"pipe", "", "is not a file"}, {"etc", "", "is not a file"},
	} {
		got, err := v.ReadFile(c.path, 4)
		if string(got) != c.want || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %q, %v", c.path, got, err)
		}
	}
	if _, err := v.ReadFile("none", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
