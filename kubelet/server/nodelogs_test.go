package server

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Files and folders of the node's logs are served; what leads out of the folder, and what is no file, is not there.
func TestNodeLogs(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "log")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "deep"), 0o755), os.WriteFile(filepath.Join(top, "secret"), []byte("secret\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "deep", "a.log"), []byte("a line\n"), 0o600), os.Symlink("deep/a.log", filepath.Join(dir, "inside")),
		os.Symlink("../secret", filepath.Join(dir, "outside")), os.Symlink(filepath.Join(top, "secret"), filepath.Join(dir, "far")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	h := http.FileServerFS(plain{root})
	for path, want := range map[string]string{"/deep/a.log": "a line", "/inside": "a line", "/": "<a href=\"deep/\">", "/deep/": "a.log", "/outside": "", "/far": "", "/pipe": "",
		"/../secret": "", "/deep/../../secret": "", "/none": ""} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		body, err := io.ReadAll(w.Result().Body)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(body); (want == "") != (w.Code >= 400) || !strings.Contains(text, want) || strings.Contains(text, "secret\n") {
			t.Errorf("%s: %d %q, want %q", path, w.Code, text, want)
		}
	}
	for _, name := range []string{"/etc/passwd", "../secret", "a//b"} {
		if _, err := (plain{root}).Open(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
