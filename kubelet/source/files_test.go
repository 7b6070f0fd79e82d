package source

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/logging"
)

// What is too long, or no file at all, is no pod and ends no pod; a change is one also where the manifest says the UID.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var told []string
	f := &files{path: dir, node: "n1", log: logging.ForTest(t)}
	look := func(want string) {
		t.Helper()
		told = nil
		f.scan(func(p *corev1.Pod, gone bool) {
			told = append(told, map[bool]string{true: "-", false: "+"}[gone]+p.Name+" "+p.Spec.Containers[0].Image)
		})
		if got := strings.Join(told, " "); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	one := "apiVersion: v1\nkind: Pod\nmetadata: {name: p, uid: 0b5e, deletionTimestamp: \"2026-01-01T00:00:00Z\"}\nspec: {containers: [{name: c, image: i}]}\n"
	write("pod", one)
	for _, name := range []string{"pipe", "pipes/is/a/folder"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	look("+p-n1 i")
	look("")
	if f.known["pod"][0].DeletionTimestamp != nil {
		t.Error("the pod ends as it begins")
	}
	write("pod", strings.Replace(one, "image: i", "image: j", 1))
	look("+p-n1 j")
	look("")
	write("pod", one+strings.Repeat("#", mostBytes))
	look("")
	if f.said["pod"] == "" {
		t.Error("nothing is said of a manifest that is too long")
	}
	f.path = filepath.Join(dir, "pipe")
	if _, err := f.list(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pipe instead of a folder: %v", err)
	}
	if data, err := whole(bytes.NewReader(make([]byte, mostBytes))); err != nil || len(data) != mostBytes {
		t.Errorf("the longest manifest: %d bytes, %v", len(data), err)
	}
}
