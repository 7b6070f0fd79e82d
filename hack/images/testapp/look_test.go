package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLook(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	o := options{text: "hello"}
	for _, c := range []struct{ arg, want string }{
		{"mode:" + dir + "/file", "mode of " + dir + "/file: (no such file or directory)"},
		{"make=0640:" + dir + "/file", "make of " + dir + "/file: made"},
		{"make=0640:" + dir + "/file", "make of " + dir + "/file: (file exists)"},
		{"mode:" + dir + "/link", "mode of " + dir + "/link: -rw-r-----"},
		{"content:" + dir + "/link", "content of " + dir + "/link: hello"},
		{"bytes:" + dir + "/file", "bytes of " + dir + "/file: 68656c6c6f"},
		{"list:" + dir, "list of " + dir + ": file link"},
		{"write:" + dir + "/other", "write of " + dir + "/other: written"},
		{"mount:" + dir, "mount of " + dir + ": (nothing is mounted there)"},
		{"type:/proc", "type of /proc: proc"},
		{"owner:/proc", "owner of /proc: 0:0"},
	} {
		got, err := lookOnce(o, c.arg)
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.arg, got, err, c.want)
		}
	}
	for _, bad := range []string{"mode", "color:/proc", ""} {
		if got, err := lookOnce(o, bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
	if err := look(t.Context(), options{count: 1, args: []string{"mode:/", "nothing"}}); err == nil {
		t.Error("a look at nothing is no error")
	}
}
