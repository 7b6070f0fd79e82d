package audit

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

func openLog(t *testing.T, c FileConfig) *file {
	t.Helper()
	l, err := openFile(c, func(err error) { t.Errorf("not rotated: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.close() })
	return l
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func TestFileGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "folder", "audit.log")
	for _, line := range []string{"one", "two"} {
		l := openLog(t, FileConfig{Path: path})
		if n, err := l.write(t.Context(), [][]byte{[]byte(line), []byte("x")}); n != 2 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := lines(t, path); !slices.Equal(got, []string{"one", "x", "two", "x"}) {
		t.Errorf("got %q", got)
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		if is, err := os.Stat(p); err != nil || is.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", p, is.Mode(), err)
		}
	}
}

// Every line is in one of the files, none is torn, and no file is larger than it may be, but for a line that alone is.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, FileConfig{Path: filepath.Join(dir, "audit.log"), Rotation: Rotation{MaxSize: 1}})
	pad := strings.Repeat("x", 1000)
	var want []string
	for i := range 40 {
		var batch [][]byte
		for j := range 100 {
			line := fmt.Sprintf("%02d-%02d %s", i, j, pad)
			batch, want = append(batch, []byte(line)), append(want, line)
		}
		if i == 20 {
			line := "huge " + strings.Repeat("y", 2*megabyte)
			batch, want = append(batch, []byte(line)), append(want, line)
		}
		if n, err := l.write(t.Context(), batch); n != len(batch) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	old, err := l.keep.backups()
	if err != nil || len(old) < 4 {
		t.Fatalf("%v, %v", old, err)
	}
	slices.Reverse(old)
	var got []string
	for _, path := range append(paths(old), l.path) {
		is, err := os.Stat(path)
		if err != nil || is.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, is.Mode(), err)
		}
		in := lines(t, path)
		if is.Size() > megabyte && len(in) != 1 {
			t.Errorf("%s: %d bytes", path, is.Size())
		}
		got = append(got, in...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d lines of %d", len(got), len(want))
	}
}

func paths(all []backup) (out []string) {
	for _, b := range all {
		out = append(out, b.path)
	}
	return out
}

func TestKeeping(t *testing.T) {
	now := time.Date(2026, 5, 10, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		r    Rotation
		want []string
	}{
		{"all", Rotation{}, []string{"audit-2026-05-01T00-00-00.000.log", "audit-2026-05-08T00-00-00.000.log", "audit-2026-05-09T00-00-00.000.log.gz", "audit-2026-05-10T00-00-00.000.log"}},
		{"some", Rotation{MaxBackup: 2}, []string{"audit-2026-05-09T00-00-00.000.log.gz", "audit-2026-05-10T00-00-00.000.log"}},
		{"young", Rotation{MaxAge: 5}, []string{"audit-2026-05-08T00-00-00.000.log", "audit-2026-05-09T00-00-00.000.log.gz", "audit-2026-05-10T00-00-00.000.log"}},
		{"packed", Rotation{MaxAge: 5, MaxBackup: 2, Compress: true}, []string{"audit-2026-05-09T00-00-00.000.log.gz", "audit-2026-05-10T00-00-00.000.log.gz"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			mine := []string{"audit-2026-05-01T00-00-00.000.log", "audit-2026-05-08T00-00-00.000.log", "audit-2026-05-09T00-00-00.000.log.gz", "audit-2026-05-10T00-00-00.000.log"}
			others := []string{"audit.log", "audit-yesterday.log", "other-2026-05-01T00-00-00.000.log", "audit-2026-05-01T00-00-00.000.txt"}
			for _, name := range append(mine, others...) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := newKeeper(filepath.Join(dir, "audit.log"), c.r).tidy(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				if !slices.Contains(others, e.Name()) {
					got = append(got, e.Name())
				}
			}
			if !slices.Equal(got, c.want) || len(entries) != len(got)+len(others) {
				t.Errorf("got %v of %d", got, len(entries))
			}
			if c.r.Compress {
				b, err := os.ReadFile(filepath.Join(dir, "audit-2026-05-10T00-00-00.000.log.gz"))
				if err != nil {
					t.Fatal(err)
				}
				z, err := gzip.NewReader(bytes.NewReader(b))
				if err != nil {
					t.Fatal(err)
				}
				if plain, err := io.ReadAll(z); err != nil || string(plain) != "audit-2026-05-10T00-00-00.000.log" {
					t.Errorf("%q, %v", plain, err)
				}
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "audit-2026-05-10T00-00-00.000.log")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pack(ended, path); err == nil {
		t.Error("packed when it should have ended")
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A disk that is full takes whole lines or none, and the log goes on when there is room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mounting a small disk: %v (this test needs root)", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	l := openLog(t, FileConfig{Path: filepath.Join(dir, "audit.log")})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat("x", 700)
	var want []string
	lost := 0
	for i := range 30 {
		var batch [][]byte
		for j := range 3 {
			batch = append(batch, fmt.Appendf(nil, "%02d-%d %s", i, j, pad))
		}
		n, err := l.write(t.Context(), batch)
		if (err == nil) != (n == len(batch)) {
			t.Fatalf("took %d: %v", n, err)
		}
		for _, b := range batch[:n] {
			want = append(want, string(b))
		}
		lost += len(batch) - n
	}
	if lost == 0 {
		t.Fatal("the disk was never full")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if n, err := l.write(t.Context(), [][]byte{[]byte("again")}); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if got := lines(t, l.path); !slices.Equal(got, append(want, "again")) {
		t.Errorf("%d lines, %d were taken: %.200q", len(got), len(want), got[len(got)-2:])
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
}

// What is no file is never rotated, and a line that was torn there is ended before the next.
func TestPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := &file{path: "-", f: w, torn: true}
	if _, err := l.write(t.Context(), [][]byte{[]byte("a")}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "\na\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestLegacyFormat(t *testing.T) {
	at := metav1.NewMicroTime(time.Date(2026, 5, 1, 2, 3, 4, 500000, time.UTC))
	for _, c := range []struct {
		name string
		e    auditv1.Event
		want string
	}{
		{"little", auditv1.Event{AuditID: "i", Stage: "RequestReceived", RequestReceivedTimestamp: at, Verb: "get", RequestURI: "/x"},
			`2026-05-01T02:03:04.0005Z AUDIT: id="i" stage="RequestReceived" ip="<unknown>" method="get" user="<none>" groups="<none>" as="<self>" asgroups="<lookup>" user-agent="" namespace="<none>" uri="/x" response="<deferred>"`},
		{"much", auditv1.Event{AuditID: "i\n", Stage: "ResponseComplete", RequestReceivedTimestamp: at, Verb: "get", RequestURI: "/x", SourceIPs: []string{"::1", "x"},
			User:             authenticationv1.UserInfo{Username: "u", Groups: []string{"g", "h"}},
			ImpersonatedUser: &authenticationv1.UserInfo{Username: "v", Groups: []string{"k"}},
			ObjectRef:        &auditv1.ObjectReference{Namespace: "ns"}, UserAgent: `a"b`, ResponseStatus: &metav1.Status{Code: 200}},
			`2026-05-01T02:03:04.0005Z AUDIT: id="i\n" stage="ResponseComplete" ip="::1" method="get" user="u" groups="\"g\",\"h\"" as="v" asgroups="\"k\"" user-agent="a\"b" namespace="ns" uri="/x" response="200"`},
	} {
		if got, err := legacy(&c.e); err != nil || string(got) != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s (%v)", c.name, got, c.want, err)
		}
	}
}

// The log is what the usual tools expect: one JSON document a line.
func TestStdout(t *testing.T) {
	if os.Getenv("AUDIT_TO_STDOUT") == "1" {
		l := openLog(t, FileConfig{Path: "-"})
		if _, err := l.write(t.Context(), [][]byte{[]byte("to stdout")}); err != nil {
			t.Fatal(err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStdout$")
	cmd.Env = append(os.Environ(), "AUDIT_TO_STDOUT=1")
	if out, err := cmd.Output(); err != nil || !strings.HasPrefix(string(out), "to stdout\n") {
		t.Errorf("%q, %v", out, err)
	}
}
